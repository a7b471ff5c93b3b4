/**
 * The inbox of a user with its read state, for pages that show it, as @parley-go/client/inbox; inbox.d.ts says what
 * everything means. Rules of docs/protocol.md, section 8, are named P8.1 and so on.
 *
 *     const inbox = openInbox(client);
 *     inbox.on("change", () => show(inbox.items, inbox.unread));
 *     await inbox.markRead(inbox.items[0]);
 *
 * Nothing is guessed: the state of an entry changes when the server says so, to all devices in the same way.
 */

const PAGE = 50; // entries that more() asks for
const AT_ONCE = 100; // entries in one mark (P2.3)
const MANY = 200; // marks held; then what they add up to is asked for
const STATES = ["unread", "read", "archived"];

const within = (spans, offset) => spans.some(([from, to]) => from <= offset && offset <= to);

const chunks = (list) => (list.length ? [list.slice(0, AT_ONCE), ...chunks(list.slice(AT_ONCE))] : []);

export function openInbox(client, { limit = 100 } = {}) {
  const listeners = new Set();
  let user = client.userId;
  let epoch;
  let oldest; // the list reaches down to this offset; undefined as long as there is none
  let most = limit;
  let base = 0; // the version of what `read` and `archived` of an inbox said (P8.2)
  let marks = []; // what is marked so: { version, as, offsets }, the newest version first; those of an inbox are the last
  let telling;
  let closed;

  const inbox = {
    items: [],
    get unread() {
      return client.unread;
    },
    version: 0,
    truncated: undefined,
    hasMore: false,
    on(event, fn) {
      const tell = () => listeners.has(tell) && fn();
      if (event === "change") listeners.add(tell);
      return () => void listeners.delete(tell);
    },
    markRead: (which) => mark("read", which),
    markUnread: (which) => mark("unread", which),
    archive: (which) => mark("archive", which),
    more,
    close() {
      closed = true;
      stops.forEach((stop) => stop());
      listeners.clear();
    },
  };

  /** Once for all that happens at a time. An error of a listener is an uncaught one and disturbs nobody. */
  function changed() {
    if (telling) return;
    telling = true;
    queueMicrotask(() => {
      telling = false;
      listeners.forEach(queueMicrotask);
    });
  }

  function empty() {
    inbox.items = [];
    oldest = undefined;
    most = limit;
  }

  /** Forgets all that belongs to another log. */
  function enter(next) {
    if (next === epoch) return;
    empty();
    epoch = next;
    marks = [];
    base = inbox.version = 0;
    inbox.truncated = undefined;
  }

  const stateOf = (offset) => marks.find((m) => within(m.offsets, offset))?.as ?? "unread";

  const itemOf = ({ unread, version, ...m }) => ({ ...m, state: stateOf(m.offset) });

  /** Brings the states up to date. What has not changed stays the same object. */
  function refresh() {
    inbox.items = inbox.items.map((item) => {
      const state = stateOf(item.offset);
      return state === item.state ? item : { ...item, state };
    });
    changed();
  }

  const seen = ({ version = 0 }) => (inbox.version = Math.max(inbox.version, version));

  /** What the server says of everything: it replaces what is known, but for marks that are newer (P8.1, P8.2, P8.5). */
  function take({ version = 0, read = [], archived = [], truncated }) {
    seen({ version });
    if (version < base) return;
    base = version;
    marks = marks.filter((m) => m.version > version);
    marks.push({ version, as: "archived", offsets: archived }, { version, as: "read", offsets: read });
    inbox.truncated = truncated;
  }

  /** The newest come first. */
  function put(newer, older) {
    const all = [...newer, ...older];
    inbox.items = all.slice(0, most);
    if (all.length > most) {
      oldest = inbox.items.at(-1).offset;
      inbox.hasMore = true;
    }
    refresh();
  }

  function add(m) {
    if (!m.offset) return; // it belongs to no inbox
    enter(m.epoch);
    seen(m);
    if (!(m.offset <= inbox.items[0]?.offset)) put([itemOf(m)], inbox.items);
  }

  /** What a list of the server holds below this offset, the newest first. */
  const listed = (messages, below = Infinity) => messages.filter((m) => m.offset < below).map(itemOf).reverse();

  const ask = (before, limit) => client.request({ type: "history", topic: "inbox", before, limit }, "inbox");

  /** Asks how everything stands; done is called if there is an answer, and it is of this log. */
  const check = (done) =>
    ask(0, 1).then((page) => {
      if (page.epoch !== epoch) return;
      take(page);
      done?.(page);
      refresh();
    }, () => {});

  /** Adds a page below the list, or where there is none yet, the newest one. */
  async function more() {
    const before = oldest;
    const { messages, more, ...page } = await ask(before, PAGE);
    if (before === undefined && oldest === undefined) enter(page.epoch);
    if (before !== oldest || page.epoch !== epoch) return inbox.hasMore; // the list has begun anew meanwhile
    take(page);
    // A page without entries may hold some whose time was over (P8.7), and then none is listed.
    oldest = messages[0]?.offset ?? Math.max(1, (before ?? page.offset + 1) - PAGE);
    inbox.hasMore = !!more && oldest > 1;
    if (before) most += messages.length;
    const older = listed(messages, inbox.items.at(-1)?.offset);
    put(inbox.items, older);
    return inbox.hasMore && !older.length ? inbox.more() : inbox.hasMore;
  }

  /** Where it fails the next connect tries again, or more(). */
  const load = () => oldest === undefined && !closed && more().catch(() => {});

  async function mark(type, which = { upTo: inbox.items[0]?.offset ?? inbox.truncated }) {
    const at = epoch;
    const { upTo, ids } = which;
    let parts;
    if (ids) parts = chunks(ids).map((ids) => ({ ids }));
    else if ("upTo" in which) parts = upTo ? [{ epoch, offset: upTo }] : [];
    // What is of another log is not kept any more, and passed over like everything that is not (P8.4).
    else parts = chunks([which].flat().filter((i) => i.epoch === at).map((i) => i.offset)).map((offsets) => ({ epoch, offsets }));
    const acks = await Promise.all(parts.map((part) => client.request({ ...part, type })));
    if (at !== epoch) return;
    acks.forEach(seen);
    changed();
    if (type === "unread") return;
    if (upTo >= inbox.truncated) inbox.truncated = undefined; // P8.3
    // What was not marked is not kept any more (P8.4), unless the mark is only not told yet, or undone already.
    const gone = ({ offset, id }) =>
      stateOf(offset) === "unread" && parts.some((p) => offset <= p.offset || p.offsets?.includes(offset) || p.ids?.includes(id));
    if (inbox.items.some(gone)) {
      check((page) => {
        if (acks.some((m) => m.epoch === epoch && m.version === page.version)) inbox.items = inbox.items.filter((i) => !gone(i));
      });
    }
  }

  const handlers = {
    connected: changed,
    unread: changed,
    notification: add,
    private: add,
    inbox({ messages, ...h }) {
      empty();
      enter(h.epoch);
      take(h);
      oldest = messages[0]?.offset ?? h.offset + 1;
      inbox.hasMore = oldest > 1;
      put([], listed(messages));
    },
    recovered(h) {
      if (h.topic !== "inbox") return;
      take(h);
      refresh();
      load();
    },
    gap({ topic, code }) {
      if (topic !== "inbox") return;
      if (code === "ahead") enter(); // versions went back, too
      empty();
      queueMicrotask(load); // unless a list follows
    },
    marked(m) {
      if (epoch === undefined) enter(m.epoch);
      if (m.epoch !== epoch || !(m.version > base) || !STATES.includes(m.as)) return;
      seen(m);
      marks = [m, ...marks].sort((a, b) => b.version - a.version);
      refresh();
      if (marks.length % MANY === 0) check();
    },
  };

  const stops = Object.entries(handlers).map(([event, handle]) =>
    client.on(event, (payload) => {
      if (user !== client.userId) enter(); // somebody else's inbox
      user = client.userId;
      handle(payload);
    }),
  );
  if (client.clientId) load(); // else it comes by itself
  return inbox;
}
