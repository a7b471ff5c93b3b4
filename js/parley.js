/**
 * The parley browser client, for protocol version 1 (docs/protocol.md; rules are named P1.3 and so on).
 * One ES module without dependencies, served as it stands here; parley.d.ts says what everything means.
 *
 *     import { connect } from "./parley.js";
 *     const client = connect("realtime");
 *     const room = client.join("general", { username: "kim" });
 *     room.on("message", (m) => console.log(m.username, m.content));
 *     await room.send("hello");
 *
 * States of a client, each change announced by a "state" event:
 *
 *     connecting --"connected" received--> connected --connection lost--> waiting --delay, online, visible--> connecting
 *     connecting --no connection--> waiting
 *     any --close(), or a close code that says not to come back--> closed          (the end)
 *     any --close code 4100, or token() failed with 401 or 403--> unauthorized     (the end)
 *
 * A browser does not tell a page why a handshake failed: a 401 looks like a server that is down. So the client keeps
 * trying; a page that must know lets token() fail, or has its Authenticator accept and the application close with 4100.
 */

const CONNECT_MS = 20000; // for token(), handshake and "connected" together
const PROBE_MS = 5000; // for the answer to a ping that asks whether the connection still lives
const STABLE_MS = 30000; // a connection that lasted this long starts the backoff anew
const APART_MS = 1000; // between two attempts, however often the page wakes up; and between two receipts (P8.6)
const WINDOW = 50; // requests on the way: who sends at once all that waited gets above the rate limit, and is ended (P2.7)

/** Close codes after which nobody comes back by himself (section 7). */
const FINAL = /^(100[^1456]|41..)$/;
/** Refusals that pass. */
const PASSING = /^(unavailable|rate_limited|closing)$/;
/** What a request without an answer is rejected with, and how a connection without one has ended. */
const LATE = "timeout";
/** Events of the page after which a connection may be worth less, or a new one more. */
const WAKE = ["online", "pageshow", "pagehide", "visibilitychange"];

/** Name, kind and "?" of a field in the table of types. */
const FIELD = /(\w+):?(\w?)(\??)/g;

const isString = (v) => typeof v === "string";
const isCount = (v) => Number.isSafeInteger(v) && v >= 0;

const list = (is) => (v) => Array.isArray(v) && v.every(is);
const KINDS = {
  "": isString,
  n: isCount,
  b: (v) => v === !!v,
  a: Array.isArray,
  s: list(list(isCount)),
  m: list((x) => isString(x?.userId) && isString(x.username)),
  x: () => true,
};

/** Where a message stands in its topic; undefined in topics that keep no history. */
const positionOf = ({ epoch, offset }) => (epoch && isCount(offset) ? { epoch, offset } : undefined);

const failure = (code, message = code) => Object.assign(new Error(message), { name: "ParleyError", code });
const notIn = (room) => failure("not_member", `not in ${room}`);
const random = (min, max) => min + Math.random() * Math.max(0, max - min);
// Timers and durations must not depend on the wall clock, which may jump.
const now = () => performance.now();
// Larger delays make setTimeout fire at once.
const after = (ms, fn) => setTimeout(fn, Math.min(ms, 2e9));
const encoder = new TextEncoder();
const base64url = (bytes) => btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");

/** Listeners: `on` is for everybody, the others for the owner. */
function emitter() {
  const all = new Set();
  return {
    on(event, fn) {
      const listener = { event, fn };
      all.add(listener);
      return () => all.delete(listener);
    },
    emit(event, payload) {
      for (const listener of [...all]) {
        try {
          if (listener.event === event && all.has(listener)) listener.fn(payload); // else unsubscribed by one before it
        } catch (e) {
          // It must be seen, and it must not stop the client or the next listener.
          queueMicrotask(() => {
            throw e;
          });
        }
      }
    },
    /** Ends all events, the one being told now, too. */
    mute: () => all.clear(),
  };
}

/**
 * Connects to a parley hub and stays connected. Returns at once.
 *
 * What belongs to one client is in this closure, so that nothing but the client and its rooms can reach it.
 */
export function connect(
  url,
  { token, WebSocket = globalThis.WebSocket, backoff: { min = 500, max = 20000 } = {}, queue = 100, timeout = 120000 } = {},
) {
  const { on, emit, mute } = emitter();
  const prefix = base64url(crypto.getRandomValues(new Uint8Array(12)));
  const timers = new Set(); // those of the connection or of the wait for it
  const rooms = new Map(); // topics by name
  const leaving = new Set(); // names of rooms whose leave is not yet answered
  const pending = new Map(); // requests without an answer, by id, in the order of sending
  const own = new Set(); // client ids so far
  let ws; // the socket in use; events of any other are stale
  let up; // when "connected" was received on it
  let attempt = 0; // changes with every connection, so that what belongs to an old one can be told
  let opened = 0; // when the newest attempt began
  let tries = 0;
  let due = 0; // when to come back, if a "bye" has set a window
  let bye;
  let woken = -Infinity; // when somebody looked: a connection that soon turns out to be dead is replaced at once
  let session; // to be offered to keep the client id; in memory only, because two tabs must not share it
  let received = 0;
  let probing; // the id of a ping without an answer
  let maxSize;
  let receipts; // the server wants to know what has arrived, and may be told now
  let onTheWay = 0; // requests that were sent on ws
  let ids = 0;
  let over; // the client has ended
  let early = []; // broadcasts that follow on one of this client, which is not acknowledged yet

  const client = {
    state: "connecting",
    clientId: "",
    userId: "",
    closeReason: "",
    unread: 0,
    on,
    join,
    private: (targetId, message) => request({ type: "private", targetId, message }),
    broadcast: (message) => request({ type: "broadcast", message }),
    call: async (method, data) => (await request({ type: "call", method, data }, all, "reply")).data,
    signal: (targetId, name, data) => fire({ type: "signal", targetId, name, data }),
    async ping() {
      const start = now();
      return { timestamp: (await request({ type: "ping" }, all, "pong")).timestamp, rtt: now() - start };
    },
    request: (message, answer) => request(message, inbox, answer),
    close: () => end(1000, ""),
  };

  // A topic is what has positions: a room, the inbox, the broadcast. up: joined on this connection. join: its join is on the
  // way. asked: the page has joined it, not the application alone. held: what is to be
  // sent waits for a moment. synced: its history has come once. tried: the offset from where a reconnect was to fill a hole.
  const inbox = { emit, tag: { topic: "inbox" }, types: ["private", "notification"] };
  const all = { emit, tag: { topic: "broadcast" }, types: ["broadcast"] }; // and what belongs to no room is sent here

  // ---- connection ----

  const gone = () => failure("closed", client.closeReason || "ended");
  const tellError = (code, message = code, room) => emit("error", { code, message, room });

  function setState(state, retryIn) {
    if (state === client.state) return;
    emit("state", { state: (client.state = state), retryIn });
  }

  function later(ms, fn) {
    const timer = after(ms, () => {
      timers.delete(timer);
      fn();
    });
    timers.add(timer);
  }

  function stopTimers() {
    timers.forEach(clearTimeout);
    timers.clear();
  }

  /** Forgets the connection and all that belongs to it. Without a code that means "back soon" its session would end. */
  function reset(code = 4000) {
    const old = ws;
    stopTimers();
    leaving.clear();
    ws = up = undefined;
    onTheWay = 0;
    early = [];
    for (const topic of [all, inbox, ...rooms.values()]) topic.up = topic.held = topic.join = undefined;
    old?.close(code);
    return ++attempt;
  }

  async function open() {
    const mine = reset();
    opened = now();
    later(CONNECT_MS, () => lost(1006, LATE));
    setState("connecting");
    await null; // the caller of connect() listens from now on
    if (mine !== attempt) return;
    let credentials;
    try {
      credentials = await (token?.call ? token() : token);
    } catch (e) {
      if (mine !== attempt) return;
      const message = `token: ${e?.message ?? e}`;
      if (e?.unauthorized || [401, 403].includes(e?.status)) return end(undefined, message, "unauthorized");
      tellError("token", message);
      if (mine === attempt) lost(1006, message);
      return;
    }
    if (mine !== attempt) return;
    try {
      ws = new WebSocket(url.href, protocols(credentials));
    } catch (e) {
      // A URL or scheme that the browser does not allow: it will not do so later.
      return end(1006, `${e?.message ?? e}`);
    }
    ws.onmessage = (e) => mine === attempt && receive(e.data);
    ws.onclose = (e) => mine === attempt && lost(e.code, e.reason);
    ws.onerror = () => {}; // a close follows
  }

  /** The version, and what the server should know from the beginning (P1.3, P1.8, P1.10): never in the URL. */
  function protocols(credentials) {
    const encode = (s) => base64url(encoder.encode(s));
    const place = ({ position: at }) => at && `${at.offset}.${encode(at.epoch)}`;
    const entries = [
      ["token", credentials && encode(credentials)], ["session", session], ["inbox", place(inbox)], ["broadcast", place(all)],
    ];
    return ["parley.v1", ...entries.filter((e) => e[1]).map((e) => `parley.${e.join(".")}`)];
  }

  /** The connection is gone: come back, unless the code says not to. */
  function lost(code, reason) {
    if (FINAL.test(code)) return end(code, reason);
    if (now() - up >= STABLE_MS) tries = 0;
    const mine = reset();
    client.closeCode = code;
    client.closeReason = reason;
    disown((p) => p.at && (p.answer !== "ack" || p.topic.gone));
    const delay = bye ? random(bye.retryMin, bye.retryMax) : now() - woken < 3 * PROBE_MS ? 0 : jitter(tries++);
    due = bye ? now() + delay : 0;
    bye = undefined;
    woken = -Infinity;
    setState("waiting", delay);
    if (mine === attempt) later(delay, open);
  }

  /** Rejects requests that can't be sent, or sent again. */
  function disown(which) {
    pending.forEach((p) => which(p) && drop(p, "disconnected", "outcome unknown"));
  }

  /** Full jitter: after a crash of the server its clients come back evenly spread. */
  const jitter = (n) => random(n && min / 5, Math.min(max, min * 2 ** n));

  function end(code, reason, state = code === 4100 ? "unauthorized" : "closed") {
    if (over) return;
    over = true;
    reset(1000);
    listen("remove");
    client.closeCode = code;
    client.closeReason = reason;
    pending.forEach((p) => settle(p).reject(gone()));
    rooms.forEach((topic) => {
      topic.reject(gone());
      topic.mute();
    });
    setState(state);
    mute();
  }

  const listen = (how) => WAKE.forEach((e) => globalThis[`${how}EventListener`]?.(e, wake));

  /** The network is back, or somebody looks at the page again: don't wait, and don't trust a silent connection. */
  function wake({ type, persisted }) {
    const online = type === "online";
    if (persisted === false) return; // a page that begins or ends
    // In the back-forward cache nobody reads from a connection, and the user seems to be there who is not.
    if (type === "pagehide") return ws && lost(1006, "left");
    if (!online && globalThis.document?.visibilityState === "hidden") return;
    if (online) tries = 0;
    if (up) {
      woken = now();
      if (ws.readyState === 1) return probe();
      lost(1006, "left"); // and the event may come late or never
    }
    const age = now() - opened;
    if (client.state === "waiting") now() >= due && later(APART_MS - age, open);
    // An attempt from before the network changed, or the page was away, hangs.
    else if (client.state === "connecting" && age >= PROBE_MS && type !== "visibilitychange") open();
  }

  /** Asks whether the connection lives: the answer counts. What else comes may have been on its way for long. */
  function probe(again) {
    const before = received;
    const start = now();
    fire({ type: "ping", id: (probing = newId()) });
    later(PROBE_MS, () => {
      if (!probing) return;
      // A timer that is late ran on a machine that slept: what came meanwhile has not been read yet.
      const late = !again && now() - start > 2 * PROBE_MS;
      if (late || before !== received) probe(late);
      else lost(1006, LATE);
    });
  }

  /** Pages don't see the server's WebSocket pings, so silence is asked about. */
  function watch(interval, before) {
    later(interval, () => {
      watch(interval, received);
      if (before === received) probe();
    });
  }

  // ---- requests ----

  const newId = () => prefix + ids++;

  /**
   * Sends a message and waits for its answer, which is of this type. It waits for the connection (and for its room).
   * What is answered by an ack is sent again, with the same id (P4.2), if the connection dies first or the server can't
   * take it now; everything else is rejected then. Without `answer` it is a join or leave, and overtakes what waits.
   */
  function request(message, topic = all, answer = "ack") {
    return new Promise((resolve, reject) => {
      if (over) throw gone();
      if (topic.gone) throw notIn(message.room);
      if (answer && !ready(topic) && [...pending.values()].filter((p) => p.answer).length >= queue) throw failure("queue_full");
      const id = newId();
      const p = { id, type: message.type, text: JSON.stringify({ ...message, id }), answer, topic, resolve, reject };
      p.timer = after(timeout, () => drop(p, LATE));
      pending.set(id, p);
      answer ? flush() : send(p);
    });
  }

  const ready = (topic) => topic.up && !topic.held && !all.held;

  /** Sends, in order, what can be sent now. */
  function flush() {
    for (const p of pending.values()) {
      if (onTheWay >= WINDOW) return;
      if (p.on !== attempt && ready(p.topic)) send(p);
    }
  }

  function send(p) {
    // The server knows ids for a limited time, also while this machine sleeps and its timers stand still.
    if (Date.now() - p.at > timeout) drop(p, LATE);
    else if (write(p.text)) {
      p.on = attempt;
      p.at ??= Date.now();
      onTheWay++;
    } else drop(p, "too_large");
  }

  /** False if the server would close the connection because of the size. */
  function write(text) {
    if (encoder.encode(text).length > maxSize) return false;
    ws.send(text);
    return true;
  }

  function fire(message) {
    if (up && !write(JSON.stringify(message))) tellError("too_large");
  }

  /** Takes a request off the list; an answered broadcast moves the position. */
  function settle(p, answer = {}) {
    pending.delete(p.id);
    clearTimeout(p.timer);
    if (p.type === "broadcast") broadcast(answer);
    back(p);
    return p;
  }

  const drop = (p, code, message) => settle(p).reject(failure(code, message));
  /** A request is no longer on the way. */
  function back(p) {
    if (p.on === attempt) {
      p.on = 0;
      onTheWay--;
      flush();
    }
  }

  function answer({ type, id, ...m }) {
    const p = pending.get(id);
    if (!p || (p.answer || "ack") !== type) return;
    if (m.messages) m.messages = entries(m.messages, p.topic);
    tally(m);
    settle(p, m).resolve(m);
  }

  function refused({ id, code = "unknown", message }) {
    const p = pending.get(id);
    if (!p) {
      // "connected" has told about the session; and what was asked by nobody who still waits is over.
      if (code !== "bad_session" && !id?.includes(prefix)) tellError(code, message);
    } else if (p.answer !== "ack" || p.topic.gone || !PASSING.test(code)) drop(p, code, message);
    else {
      // Perhaps stored, perhaps not: only the same id is safe to send again. Others wait, too, to stay in order.
      const topic = code === "rate_limited" ? all : p.topic;
      if (!topic.held) {
        topic.held = true;
        later(jitter(3), () => flush((topic.held = false)));
      }
      back(p);
    }
  }

  // ---- rooms ----

  /**
   * The room of this name. One that the application has joined (P5.6) is asked for anew when the page joins it first, so
   * that its history is told. If it is just coming back it is left before: else the answer to that would be taken for this.
   */
  function join(name, { username, since } = {}) {
    let topic = rooms.get(name);
    if (!topic?.asked) {
      if (topic?.join) topic = leave(topic);
      topic ??= enter(name);
      Object.assign(topic, { asked: true, up: false, synced: false, username, position: positionOf({ ...since }) });
      ask(topic);
    }
    return topic.room;
  }

  function enter(name) {
    const topic = { ...emitter(), name, types: ["message"] };
    topic.room = {
      name,
      members: new Map(),
      count: 0,
      joined: new Promise((resolve, reject) => Object.assign(topic, { resolve, reject })),
      get position() {
        return topic.position;
      },
      on: topic.on,
      send: (content) => request({ type: "message", room: name, content }, topic),
      signal: (signal, data) => topic.up && fire({ type: "signal", room: name, name: signal, data }),
      history: (page) => request({ ...page, type: "history", room: name }, topic, "history"),
      leave: () => leave(topic),
    };
    topic.room.joined.catch(() => {}); // not everybody waits for it
    if (over) topic.reject(gone());
    else rooms.set(name, topic);
    return topic;
  }

  async function ask(topic) {
    const { name } = topic;
    if (!up || topic.join || topic.gone || leaving.has(name)) return;
    const mine = (topic.join = {});
    try {
      await request({ type: "join", room: name, username: topic.username, ...topic.position }, all, "");
    } catch (e) {
      if (topic.join !== mine) return; // of an earlier connection, or answered
      if (topic.gone || passes(e, () => ask(topic, (topic.join = undefined)))) return;
      forget(topic, e);
      tellError(e.code, e.message, name);
    }
  }

  /** Whether an error passes; then fn is called later, if the connection still stands. */
  function passes({ code }, fn) {
    return (PASSING.test(code) || code === LATE) && !later(jitter(3), fn);
  }

  function forget(topic, error) {
    rooms.delete(topic.name);
    topic.up = false;
    topic.gone = true;
    topic.reject(error);
    for (const p of pending.values()) {
      if (p.topic === topic && p.on !== attempt) settle(p).reject(error); // the others will be answered
    }
  }

  /**
   * Leaves, or takes the news that the application has ended the membership (P5.5). Then a join that is on its way is
   * taken back: the server may have got it after that.
   */
  function leave(topic, news) {
    if (topic.gone) return;
    const { name } = topic;
    const member = topic.join || (topic.up && !news);
    forget(topic, notIn(name));
    if (member) {
      // A join of the same name waits for the answer: until then, what comes is still meant for this one.
      leaving.add(name);
      depart(name);
    }
    if (news) deliver(news, topic);
    topic.mute();
  }

  async function depart(name) {
    try {
      await request({ type: "leave", room: name }, all, "");
    } catch (e) {
      if (up && passes(e, () => depart(name))) return;
    }
    leaving.delete(name);
    const next = rooms.get(name);
    if (next) ask(next);
  }

  function history(h, known) {
    if (h.id) return answer(h);
    const topic = known ?? enter(h.room);
    topic.join = undefined;
    topic.up = true;
    if (!known) emit("joined", topic.room); // by the application (P5.6)
    flush();
    replay(h, topic);
    topic.resolve?.(topic.room);
  }

  function presence(p, { room, emit }) {
    const all = new Map(p.members ? [] : room.members); // a new one, so that a change can be told from none
    p.left?.forEach((m) => all.delete(m.userId)); // first: a new name is a leave and a join
    (p.members ?? p.joined)?.forEach((m) => all.set(m.userId, m));
    room.members = all;
    room.count = p.count;
    emit("presence", p);
  }

  // ---- topics ----

  /**
   * Brings a topic to where the server says that it is, and tells what was missed, or that it can't be had. The
   * server's `recovered` is not taken on trust: the offsets must close the hole.
   */
  function replay({ type, room, messages: raws, recovered, code, more, ...h }, topic) {
    const { emit, tag, synced, position: at } = topic;
    const to = positionOf(h);
    const messages = entries(raws, topic);
    let top = at?.offset;
    for (const raw of raws) if (raw?.offset === top + 1) top++;
    topic.synced = true;
    if (at && recovered !== false && at.epoch === to?.epoch && top >= to.offset) {
      topic.position = { ...to, offset: top };
      let last = at.offset;
      let missed = 0;
      tally(h);
      for (const m of messages) {
        if (!(m.offset > last && m.offset <= top)) continue;
        last = m.offset;
        missed++;
        deliver(m, topic);
      }
      emit("recovered", { ...tag, ...h, ...topic.position, missed });
    } else {
      if (code === "ahead" || to?.epoch !== at?.epoch) topic.version = 0;
      topic.position = to;
      tally(h);
      if (at || synced) emit("gap", { ...tag, ...at, code });
      if (topic !== all) emit(type, { ...h, messages });
      else for (const m of messages) if (at?.epoch !== m.epoch || m.offset > at?.offset) deliver(m, topic);
    }
  }

  /** The entries of a history or inbox that are of these types. */
  function entries(raws, { types }) {
    const all = raws.map(parse);
    if (all.includes(undefined)) malformed();
    return all.filter((m) => types.includes(m?.type) && !own.has(m.clientId));
  }

  /** Takes a live message: each once, and none before those that it follows on. False if that has to be waited for. */
  function live(m, topic) {
    const { position: at } = topic;
    const next = positionOf(m);
    if (!topic.up) return; // its history has it
    if (at && next) {
      const known = at.epoch === next.epoch;
      // The ack of a resend may name a log that is no more: it says nothing about this one.
      if (known ? next.offset <= at.offset : !m.type) return true;
      if (!known || next.offset > at.offset + 1) return void (topic.room ? ask : hole)(topic, m);
    }
    topic.position = next ?? at;
    deliver(m, topic);
    return true;
  }

  /** A broadcast, or the ack of one of this client, which itself is not sent to it. */
  function broadcast(m) {
    if (live(m, all)) early.splice(0).forEach((next) => up && broadcast(next));
  }

  /**
   * Messages of the inbox or the broadcast before m are missing. Perhaps they are the client's own; else only a new
   * connection brings them, unless that was tried from here already.
   */
  function hole(topic, m) {
    const { position: at } = topic;
    if (topic === all && [...pending.values()].some((p) => p.type === "broadcast" && p.on === attempt)) early.push(m);
    else if (topic.tried !== at.offset) {
      topic.tried = at.offset;
      lost(4004, "gap");
    } else {
      topic.position = positionOf(m);
      topic.version = 0;
      emit("gap", { ...topic.tag, ...at });
      deliver(m, topic);
    }
  }

  /** Tells of a message; not of an ack, which has no type here, and not of what the client sent itself (P4.12). */
  function deliver(m, { emit } = all) {
    if (own.has(m.clientId)) return;
    tally(m);
    emit(m.type, m);
  }

  // ---- the inbox ----

  /** Takes the number of unread entries, if it is not older than what is known: versions are those of an epoch (P8.1). */
  function tally({ unread, version, epoch = inbox.position?.epoch }) {
    if (!(unread >= 0 && version >= inbox.version && epoch === inbox.position?.epoch)) return;
    inbox.version = version;
    if (unread !== client.unread) emit("unread", { unread: (client.unread = unread) });
  }

  /** Takes what belongs to the inbox, and tells the server that it has arrived: at once, or when a second has passed. */
  function personal(m) {
    m.messages ? history(m, inbox) : live(m, inbox);
    receipt();
  }

  function receipt() {
    const { position } = inbox;
    if (!up || !receipts || !position) return;
    receipts = false;
    fire({ type: "received", ...position });
    later(APART_MS, () => {
      receipts = true;
      if (position !== inbox.position) receipt();
    });
  }

  // ---- messages of the server ----

  const malformed = () => tellError("bad_message");

  /**
   * By type: what is done with a message (topic is that of m.room, or the broadcast), what is read of it, and what that
   * must be: a string, or n a count, b a boolean, a an array, s an array of spans, m one of members, x anything; "?" marks what may be
   * missing. A message that differs is malformed; other keys are not read and not passed on (P1.6).
   */
  const types = {
    __proto__: null,
    connected: [connected, "clientId userId? username? maxMessageSize:n? pingInterval:n? session? resumed:b? receipts:b?"],
    ack: [answer, "id duplicate:b?"],
    reply: [answer, "id data:x"],
    pong: [answer, "id? timestamp:n"],
    error: [refused, "id? code? message"],
    history: [history, "id? room? messages:a recovered:b? code? more:b?"],
    message: [live, "room userId username content:x timestamp:n"],
    presence: [presence, "room count:n members:m? joined:m? left:m?"],
    system: [deliver, "room content"],
    left: [(m, topic) => leave(topic, m), "room reason"],
    signal: [deliver, "room? senderId username? name data:x"],
    inbox: [personal, "id? messages:a recovered:b? code? more:b? truncated:n? read:s? archived:s?"],
    private: [personal, "senderId message:x timestamp:n?"],
    notification: [personal, "id? kind? data:x timestamp:n?"],
    expired: [({ type, ...m }) => personal(m), ""], // without a type: it moves the position, and that is all (P8.7)
    marked: [deliver, "as offsets:s"],
    broadcast: [broadcast, "senderId clientId? message:x"],
    bye: [(m) => deliver((bye = m)), "code:n reason retryMin:n retryMax:n"],
  };

  /** The known and well-typed fields of a message; null if its type is unknown, undefined if it is malformed. */
  function parse(raw) {
    if (!isString(raw?.type)) return undefined;
    const known = types[raw.type];
    if (!known) return null;
    const m = { type: raw.type };
    for (const [, key, kind, optional] of `${known[1]} epoch? offset:n? unread:n? version:n?`.matchAll(FIELD)) {
      const v = raw[key];
      if (v === undefined && optional) continue;
      if (!KINDS[kind](v)) return undefined;
      m[key] = kind === "m" ? v.map(({ userId, username }) => ({ userId, username })) : v;
    }
    return m;
  }

  function receive(text) {
    received++;
    let raw;
    try {
      raw = JSON.parse(text);
    } catch {}
    const m = parse(raw);
    if (m === undefined) malformed(); // and of unknown types nothing is told (P1.6)
    if (!m) return;
    if (m.id === probing) probing = undefined;
    // Of a room that is being left only answers count; of one that is not known its history says that it is joined (P5.6).
    if (leaving.has(m.room) && !m.id) return;
    const topic = m.room === undefined ? all : rooms.get(m.room);
    if (topic || m.type === "history") types[m.type][0](m, topic);
  }

  function connected(m) {
    if (up) return;
    const { clientId, userId = clientId, username, resumed } = m;
    const other = userId !== client.userId;
    stopTimers();
    up = all.up = inbox.up = now();
    receipts = m.receipts;
    session = /^[\w-]+$/.test(m.session) ? m.session : undefined;
    own.add(clientId);
    // P4.13; and what was to be marked is somebody else's.
    if (other) disown((p) => p.at || (p.topic === inbox && client.userId));
    Object.assign(client, { clientId, userId, username });
    if (other) {
      const offered = inbox.position;
      inbox.position = inbox.synced = undefined;
      inbox.version = 0;
      if (offered) {
        // It was of somebody else's inbox, and so the answer may be a part only.
        tally({ unread: 0, version: 0 });
        return open();
      }
    }
    maxSize = m.maxMessageSize;
    if (m.pingInterval) watch(Math.max(m.pingInterval, PROBE_MS), received);
    all.position ??= positionOf(m); // if there was one its history follows, now or later (P4.11, P5.4)
    rooms.forEach(ask);
    flush();
    setState("connected");
    emit("connected", { clientId, userId, username, resumed });
  }

  if (!WebSocket) throw new TypeError("pass options.WebSocket");
  url = new URL(url, globalThis.document?.baseURI ?? globalThis.location);
  url.protocol = url.protocol.replace("http", "ws");
  url.hash = "";
  listen("add");
  open();
  return client;
}
