// A page that shows a room, as any would, and notes everything that its client
// tells it. Tests read it by page.report() and drive it by the rest of window.page.
import { connect } from "./parley.js";

const list = document.querySelector("#list");
// Tests that wait for no timer of the client set a backoff of minutes.
const backoff = Number(new URLSearchParams(location.search).get("backoff"));

const notes = {
  shown: [], // {offset, text} of the messages in the list, as the application believes them to be
  inbox: [], // {offset, text} of the notifications
  broadcasts: [], // {offset, text}
  acks: [], // {text, offset, duplicate} of the sends that were resolved, in that order
  failures: [], // {text, code} of the sends that were rejected
  sent: 0, // how many sends were begun
  gaps: [], // where something was missed for good
  errors: [], // what the client reports that belongs to nothing else
  missed: [], // how many messages each comeback brought
  histories: 0,
  clientIds: [], // of every connection
  closeCodes: [], // of every lost connection
  byes: 0,
  events: [], // what happened to the page itself
};

const client = connect("realtime", {
  backoff: backoff ? { min: backoff, max: backoff } : { min: 100, max: 500 },
  queue: 10000, // a page that talks all the time, also while it is offline
});
const room = client.join("lobby");

for (const type of ["online", "offline", "pageshow", "pagehide", "freeze", "resume", "visibilitychange"]) {
  const target = ["freeze", "resume", "visibilitychange"].includes(type) ? document : window;
  target.addEventListener(type, ({ persisted = false }) => {
    notes.events.push({ type, persisted, visibility: document.visibilityState, state: client.state });
  });
}

const show = ({ offset, content: text }) => {
  notes.shown.push({ offset, text });
  const line = document.createElement("li");
  line.textContent = text;
  list.append(line);
};

room.on("history", ({ messages }) => {
  notes.histories++;
  notes.shown = [];
  list.replaceChildren();
  messages.forEach(show);
});
room.on("message", show);
room.on("recovered", ({ missed }) => notes.missed.push(missed));
room.on("gap", (g) => notes.gaps.push({ topic: "room", ...g }));

const notify = ({ offset, data: text }) => notes.inbox.push({ offset, text });
client.on("inbox", ({ messages }) => {
  notes.inbox = [];
  messages.forEach(notify);
});
client.on("notification", notify);
client.on("broadcast", ({ offset, message: text }) => notes.broadcasts.push({ offset, text }));
client.on("gap", (g) => notes.gaps.push(g));
client.on("error", (e) => notes.errors.push(e));
client.on("bye", () => notes.byes++);
client.on("connected", ({ clientId }) => notes.clientIds.push(clientId));
client.on("state", ({ state }) => state === "waiting" && notes.closeCodes.push(client.closeCode));

let talking;

window.page = {
  client,
  room,
  notes,
  /** Sends one message to the room and notes what becomes of it. */
  say(text) {
    notes.sent++;
    room.send(text).then(
      ({ offset, duplicate = false }) => notes.acks.push({ text, offset, duplicate }),
      ({ code }) => notes.failures.push({ text, code }),
    );
  },
  /** Says numbered things until hush(). */
  talk(name) {
    let n = 0;
    talking = setInterval(() => this.say(`${name} ${++n}`), 50);
  },
  hush() {
    clearInterval(talking);
  },
  /** What helps to understand a failure. */
  state() {
    const lengths = Object.entries(notes).map(([key, v]) => [key, v.length > 20 ? `${v.length} entries` : v]);
    return JSON.stringify({ ...Object.fromEntries(lengths), state: client.state }, null, 1);
  },
  report() {
    const lines = [...list.children].map((line) => line.textContent);
    return JSON.stringify({ ...notes, lines, state: client.state, clientId: client.clientId, userId: client.userId });
  },
};
