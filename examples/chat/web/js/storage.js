// What the page remembers. localStorage has what belongs to the person (the
// name, the rooms), sessionStorage what belongs to this tab: every tab is a
// user of its own, so that two tabs can talk, and stays it over a reload.

function read(store, key, fallback) {
  try {
    return JSON.parse(store().getItem(`parley-chat-${key}`)) ?? fallback;
  } catch {
    return fallback; // storage is blocked or holds something else
  }
}

function write(store, key, value) {
  try {
    store().setItem(`parley-chat-${key}`, JSON.stringify(value));
  } catch {
    // Full or blocked: the page works without.
  }
}

const local = () => localStorage;
const session = () => sessionStorage;

export const saved = {
  get name() { return String(read(local, "name", "")); },
  set name(name) { write(local, "name", name); },

  /** Whether this tab has been in the chat before, so that a reload asks nothing. */
  get entered() { return read(session, "entered", false) === true; },
  set entered(yes) { write(session, "entered", yes); },

  get rooms() {
    const rooms = read(local, "rooms", null);
    return Array.isArray(rooms) ? rooms.filter((name) => typeof name === "string" && name) : null;
  },
  set rooms(names) { write(local, "rooms", names); },

  /** The last message seen in each room: {name: {epoch, offset}}. */
  get seen() { return read(session, "seen", {}); },
  set seen(seen) { write(session, "seen", seen); },

  /** The private conversations: the server keeps what one received, not what one sent. */
  get privates() {
    const list = read(session, "private", []);
    return Array.isArray(list) ? list : [];
  },
  set privates(list) { write(session, "private", list); },
};

let secret;

/** Proves to the server that this tab is the user it was before. The others see only a hash of it. */
export function ownSecret() {
  secret ??= read(session, "secret", null);
  if (typeof secret !== "string") {
    // Not crypto.randomUUID: on a phone the page may have come over plain http.
    const bytes = crypto.getRandomValues(new Uint8Array(20));
    secret = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    write(session, "secret", secret);
  }
  return secret;
}
