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
const KEPT = 100; // notifications
const GAP = "gap";

/** Close codes below 4000 after which nobody comes back by himself (section 7). */
const FINAL = [1000, 1002, 1003, 1007, 1008, 1009];
/** Refusals of a join that pass. */
const PASSING = ["unavailable", "rate_limited", "closing", "timeout"];

/**
 * What is read of each message, and what it must be: s a string, n a count, b a boolean, a an array, m an array of
 * members, * anything; "?" marks what may be missing. A message that differs is malformed; other keys are not read
 * and not passed on (P1.6).
 */
const SHAPES = new Map(
  Object.entries({
    connected: "clientId:s userId:s? username:s? maxMessageSize:n? pingInterval:n? epoch:s? offset:n?",
    broadcast: "senderId:s message:* epoch:s? offset:n?",
    private: "senderId:s message:* timestamp:n? epoch:s? offset:n?",
    notification: "data:* timestamp:n? epoch:s? offset:n?",
    inbox: "messages:a epoch:s? offset:n?",
    message: "room:s userId:s username:s content:* timestamp:n epoch:s? offset:n?",
    history: "id:s? room:s messages:a epoch:s? offset:n? recovered:b? more:b?",
    system: "room:s content:s",
    presence: "room:s count:n members:m? joined:m? left:m?",
    signal: "room:s? senderId:s username:s? name:s data:*",
    ack: "id:s epoch:s? offset:n? duplicate:b?",
    reply: "id:s data:*",
    pong: "id:s? timestamp:n",
    error: "id:s? code:s? message:s",
    bye: "code:n reason:s retryMin:n retryMax:n",
  }).map(([type, fields]) => [type, fields.split(" ").map((f) => f.split(/:|(?=\?)/))]),
);

const KINDS = {
  s: (v) => typeof v === "string",
  n: (v) => Number.isSafeInteger(v) && v >= 0,
  b: (v) => typeof v === "boolean",
  a: Array.isArray,
  m: (v) => Array.isArray(v) && v.every((x) => KINDS.s(x?.userId) && KINDS.s(x.username)),
  "*": () => true,
};

/** The known and well-typed fields of a message; null if its type is unknown, undefined if it is malformed. */
function parse(raw) {
  if (typeof raw?.type !== "string") return undefined;
  const shape = SHAPES.get(raw.type);
  if (!shape) return null;
  const m = { type: raw.type };
  for (const [key, kind, optional] of shape) {
    const v = raw[key];
    if (v === undefined && optional) continue;
    if (!KINDS[kind](v)) return undefined;
    m[key] = kind === "m" ? v.map(({ userId, username }) => ({ userId, username })) : v;
  }
  return m;
}

/**
 * Moves a topic past a live message. False if the topic was there already; GAP, and not moved, if it does not follow
 * on the message before. Topics that keep no history have no positions.
 */
function advance(topic, { epoch, offset }) {
  if (!epoch || offset === undefined) return true;
  const known = epoch === topic.epoch;
  if (known && offset <= topic.offset) return false;
  if (topic.epoch && !(known && offset === topic.offset + 1)) return GAP;
  Object.assign(topic, { epoch, offset });
  return true;
}

/**
 * Moves a topic to the position of a history or inbox, and returns those of its entries that the topic missed:
 * undefined if more was missed. The server's `recovered` is not taken on trust, the offsets must close the hole.
 */
function resume(topic, h, entries) {
  let at = topic.offset;
  for (const raw of h.messages) if (raw?.offset === at + 1) at++;
  const whole = h.epoch && h.epoch === topic.epoch && h.recovered !== false && at >= h.offset;
  let last = topic.offset;
  topic.epoch = h.epoch;
  topic.offset = whole ? at : h.offset;
  return whole ? entries.filter((m) => m.offset > last && (last = m.offset)) : undefined;
}

const position = ({ epoch, offset }) => ({ epoch, offset });
const ended = (why) => failure("closed", why || "the client has ended");
const failure = (code, message) => Object.assign(new Error(message), { name: "ParleyError", code });
const random = (min, max) => min + Math.random() * Math.max(0, max - min);
// Larger delays make setTimeout fire at once.
const after = (ms, fn) => setTimeout(fn, Math.min(ms, 2 ** 31 - 1));
const base64url = (bytes) =>
  btoa(String.fromCharCode(...bytes)).replace(/[+/=]/g, (c) => ({ "+": "-", "/": "_" })[c] ?? "");
const encoder = new TextEncoder();

class Emitter {
  _listeners = new Map();

  on(event, fn) {
    const { _listeners: all } = this;
    if (!all.has(event)) all.set(event, new Set());
    all.get(event).add(fn);
    return () => void all.get(event)?.delete(fn);
  }

  _emit(event, payload) {
    const fns = this._listeners.get(event);
    for (const fn of [...(fns ?? [])]) {
      if (!fns.has(fn)) continue; // unsubscribed by one before it
      try {
        fn(payload);
      } catch (e) {
        // It must be seen, and it must not stop the client or the next listener.
        queueMicrotask(() => {
          throw e;
        });
      }
    }
  }
}

class Room extends Emitter {
  members = new Map();
  count = 0;
  // epoch and offset: the last message passed on. _join: marks the join waiting for its answer. _up: joined on this
  // connection. _synced: joined at some time.
  epoch;
  offset;
  _join;
  _up = false;
  _synced = false;

  constructor(client, name, username) {
    super();
    this._client = client;
    this.name = name;
    this._username = username;
    this.joined = new Promise((resolve, reject) => Object.assign(this, { _resolve: resolve, _reject: reject }));
    this.joined.catch(() => {}); // not everybody waits for it
  }

  send(content) {
    return this._client._request({ type: "message", room: this.name, content }, "ack", { room: this });
  }

  signal(name, data) {
    if (this._up) this._client._fire({ type: "signal", room: this.name, name, data });
  }

  history({ before = 0, limit } = {}) {
    return this._client._request({ type: "history", room: this.name, before, limit }, "history", { room: this });
  }

  leave() {
    this._client._leave(this);
  }

  _presence(p) {
    const { count, members, joined = members ?? [], left = [] } = p;
    if (members) this.members.clear();
    for (const m of left) this.members.delete(m.userId); // first: a new name is a leave and a join
    for (const m of joined) this.members.set(m.userId, m);
    this.count = count;
    this._emit("presence", p);
  }
}

class Client extends Emitter {
  state = "connecting";
  clientId = "";
  userId = "";
  username;
  closeCode;
  closeReason = "";
  notifications = [];
  unread = 0;

  #url;
  #options;
  #ws; // the socket in use; events of any other are stale
  #up = false; // "connected" has been received on #ws
  #attempt = 0; // changes with every connection, so that what belongs to an old one can be told
  #timers = new Set(); // those of the connection or of the wait for it
  #tries = 0;
  #since = Infinity;
  #due = 0; // when to come back, if a "bye" has set a window
  #bye;
  #received = 0;
  #maxSize = Infinity;
  #rooms = new Map(); // by name
  #leaving = new Set(); // names of rooms whose leave is not yet answered
  #pending = new Map(); // requests without an answer, by id, in the order of sending
  #prefix = base64url(crypto.getRandomValues(new Uint8Array(12)));
  #ids = 0;
  #inbox = {}; // the positions of these topics, as in a Room
  #all = {};

  constructor(url, { token, WebSocket = globalThis.WebSocket, backoff, queue = 100, timeout = 120000 }) {
    super();
    if (!WebSocket) throw new TypeError("parley: pass options.WebSocket");
    const { min = 500, max = 20000 } = backoff ?? {};
    this.#options = { token, WebSocket, min, max, queue, timeout };
    this.#url = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    this.#url.hash = "";
    for (const e of ["online", "pageshow", "visibilitychange"]) globalThis.addEventListener?.(e, this.#wake);
    this.#open();
  }

  join(name, { username } = {}) {
    let room = this.#rooms.get(name);
    if (!room) {
      room = new Room(this, name, username);
      if (this.#ended) room._reject(ended());
      else {
        this.#rooms.set(name, room);
        this.#join(room);
      }
    }
    return room;
  }

  private(targetId, message) {
    return this._request({ type: "private", targetId, message }, "ack");
  }

  async broadcast(message) {
    const ack = await this._request({ type: "broadcast", message }, "ack");
    this.#seen(ack);
    return ack;
  }

  async call(method, data) {
    return (await this._request({ type: "call", method, data }, "reply", { once: true })).data;
  }

  signal(targetId, name, data) {
    this._fire({ type: "signal", targetId, name, data });
  }

  async ping() {
    const start = performance.now();
    const { timestamp } = await this._request({ type: "ping" }, "pong", { once: true });
    return { rtt: performance.now() - start, timestamp };
  }

  markRead() {
    this.unread = 0;
  }

  close() {
    this.#end("closed", 1000, "");
  }

  // ---- connection ----

  get #ended() {
    return this.state === "closed" || this.state === "unauthorized";
  }

  #set(state, retryIn) {
    this.state = state;
    this._emit("state", { state, retryIn });
  }

  #later(ms, fn) {
    const timer = after(ms, () => {
      this.#timers.delete(timer);
      fn();
    });
    this.#timers.add(timer);
  }

  #stopTimers() {
    this.#timers.forEach(clearTimeout);
    this.#timers.clear();
  }

  /** Forgets the connection and all that belongs to it. */
  #reset(code) {
    this.#stopTimers();
    const ws = this.#ws;
    this.#ws = undefined;
    this.#up = false;
    this.#leaving.clear();
    for (const room of this.#rooms.values()) Object.assign(room, { _up: false, _join: undefined });
    ws?.close(code);
    return ++this.#attempt;
  }

  async #open() {
    const attempt = this.#reset();
    this.#later(CONNECT_MS, () => this.#lost(1006, "no connection in time"));
    this.#set("connecting");
    await null; // the caller of connect() listens from now on
    if (attempt !== this.#attempt) return;
    let { token, WebSocket } = this.#options;
    try {
      token = await (typeof token === "function" ? token() : token);
    } catch (e) {
      if (attempt !== this.#attempt) return;
      const message = `token: ${e?.message ?? e}`;
      if (e?.unauthorized || e?.status === 401 || e?.status === 403) return this.#end("unauthorized", undefined, message);
      this.#error("token", message);
      if (attempt === this.#attempt) this.#lost(1006, message);
      return;
    }
    if (attempt !== this.#attempt) return;
    const protocols = ["parley.v1"];
    if (token) protocols.push(`parley.token.${base64url(encoder.encode(token))}`); // P1.3
    let ws;
    try {
      ws = this.#ws = new WebSocket(this.#url.href, protocols);
    } catch (e) {
      // A URL or scheme that the browser does not allow: it will not do so later.
      return this.#end("closed", 1006, `${e?.message ?? e}`);
    }
    ws.onmessage = (e) => ws === this.#ws && this.#receive(e.data);
    ws.onclose = (e) => ws === this.#ws && this.#lost(e.code, e.reason);
    ws.onerror = () => {}; // a close follows
  }

  /** The connection is gone: come back, unless the code says not to. */
  #lost(code, reason) {
    if (code === 4100) return this.#end("unauthorized", code, reason);
    if (FINAL.includes(code) || (code > 4100 && code < 4200)) return this.#end("closed", code, reason);
    const attempt = this.#reset();
    this.closeCode = code;
    this.closeReason = reason;
    if (Date.now() - this.#since >= STABLE_MS) this.#tries = 0;
    this.#since = Infinity;
    for (const [id, p] of this.#pending) {
      if (p.ws && (p.once || (p.room && this.#rooms.get(p.room.name) !== p.room))) {
        this.#settle(id).reject(failure("disconnected", "connection lost, outcome unknown"));
      }
    }
    const bye = this.#bye;
    this.#bye = undefined;
    const delay = bye ? random(bye.retryMin, bye.retryMax) : this.#backoff(this.#tries++);
    this.#due = bye ? Date.now() + delay : 0;
    this.#set("waiting", delay);
    if (attempt === this.#attempt) this.#later(delay, () => this.#open());
  }

  /** Full jitter: after a crash of the server its clients come back evenly spread. */
  #backoff(n) {
    const { min, max } = this.#options;
    return random(n && min / 5, Math.min(max, min * 2 ** n));
  }

  #end(state, code, reason) {
    if (this.#ended) return;
    this.#reset(1000);
    for (const e of ["online", "pageshow", "visibilitychange"]) globalThis.removeEventListener?.(e, this.#wake);
    this.closeCode = code;
    this.closeReason = reason;
    const gone = ended(reason);
    for (const id of [...this.#pending.keys()]) this.#settle(id).reject(gone);
    for (const room of this.#rooms.values()) room._reject(gone);
    this.#set(state);
  }

  /** The network is back, or somebody looks at the page again: don't wait, and don't trust a silent connection. */
  #wake = ({ type }) => {
    if (globalThis.document?.visibilityState === "hidden") return;
    if (type === "online") this.#tries = 0;
    if (this.#up) this.#probe();
    else if (this.state === "waiting" && Date.now() >= this.#due) this.#open();
  };

  #probe() {
    const before = this.#received;
    this._fire({ type: "ping", id: this.#id() });
    this.#later(PROBE_MS, () => before === this.#received && this.#lost(1006, "no sign of life"));
  }

  /** Pages don't see the server's WebSocket pings, so silence is asked about. */
  #watch(interval, before) {
    this.#later(interval, () => {
      this.#watch(interval, this.#received);
      if (before === this.#received) this.#probe();
    });
  }

  // ---- requests ----

  #id() {
    return this.#prefix + (this.#ids++).toString(36);
  }

  /**
   * Sends a message and waits for its answer. It waits for the connection (and for its room), and is sent again, with
   * the same id (P4.2), when the connection dies first; with `once` it is rejected then.
   */
  _request(message, answer, { room, once } = {}) {
    return new Promise((resolve, reject) => {
      if (this.#ended) throw ended();
      if (room && this.#rooms.get(room.name) !== room) throw failure("not_member", `not in room ${room.name}`);
      const up = room ? room._up : this.#up;
      if (!up && this.#pending.size >= this.#options.queue) throw failure("queue_full", "too much waits for a connection");
      const id = this.#id();
      const text = JSON.stringify({ ...message, id });
      const timer = after(this.#options.timeout, () => this.#settle(id).reject(failure("timeout", "no answer in time")));
      this.#pending.set(id, { text, answer, room, once, timer, resolve, reject });
      if (up) this.#send(id);
    });
  }

  #send(id) {
    const p = this.#pending.get(id);
    p.ws = this.#ws;
    if (!this.#write(p.text)) this.#settle(id).reject(failure("too_large", `over the limit of ${this.#maxSize} bytes`));
  }

  /** False if the server would close the connection because of the size. */
  #write(text) {
    if (text.length * 3 > this.#maxSize && encoder.encode(text).length > this.#maxSize) return false;
    this.#ws.send(text);
    return true;
  }

  _fire(message) {
    if (this.#up && !this.#write(JSON.stringify(message))) this.#error("too_large", `${message.type} over the size limit`);
  }

  /** Sends what has waited for the connection, or for this room. */
  #flush(room) {
    for (const [id, p] of this.#pending) if (p.room === room && p.ws !== this.#ws) this.#send(id);
  }

  #settle(id) {
    const p = this.#pending.get(id);
    this.#pending.delete(id);
    clearTimeout(p.timer);
    return p;
  }

  #answer({ type, id, ...m }) {
    if (this.#pending.get(id)?.answer === type) this.#settle(id).resolve(m);
  }

  #error(code, message, room) {
    this._emit("error", { code, message, room });
  }

  // ---- rooms ----

  async #join(room) {
    if (!this.#up || room._join || this.#leaving.has(room.name)) return;
    const join = (room._join = {});
    const { name, _username: username, epoch, offset } = room;
    try {
      await this._request({ type: "join", room: name, username, epoch, offset }, "ack", { once: true });
    } catch (e) {
      if (room._join !== join || this.#rooms.get(name) !== room) return; // of an earlier connection, or left
      room._join = undefined;
      if (PASSING.includes(e.code)) return this.#later(this.#backoff(3), () => this.#join(room));
      this.#forget(room, e);
      this.#error(e.code, e.message, name);
    }
  }

  #forget(room, error) {
    this.#rooms.delete(room.name);
    room._up = false;
    room._reject(error);
    for (const [id, p] of this.#pending) {
      if (p.room === room && !(p.ws && p.ws === this.#ws)) this.#settle(id).reject(error); // the others will be answered
    }
  }

  async _leave(room) {
    const { name } = room;
    for (const fns of room._listeners.values()) fns.clear(); // those of the event being told now, too
    if (this.#rooms.get(name) !== room) return;
    const member = room._up || room._join;
    this.#forget(room, failure("not_member", `left room ${name}`));
    if (!member) return;
    // A join of the same name waits for the answer: until then, what comes is still meant for this one.
    this.#leaving.add(name);
    await this._request({ type: "leave", room: name }, "ack", { once: true }).catch(() => {});
    this.#leaving.delete(name);
    const next = this.#rooms.get(name);
    if (next) this.#join(next);
  }

  #history(room, h) {
    const last = position(room);
    const messages = this.#entries(h, "message");
    const missed = resume(room, h, messages);
    const first = !room._synced;
    Object.assign(room, { _join: undefined, _up: true, _synced: true });
    this.#flush(room);
    if (missed) {
      for (const m of missed) room._emit("message", m);
      room._emit("recovered", { ...position(room), missed: missed.length });
    } else {
      if (!first) room._emit("gap", last);
      room._emit("history", { ...position(room), messages });
    }
    room._resolve(room);
  }

  #message(room, m) {
    const news = advance(room, m);
    if (news === GAP) this.#join(room); // the answer brings this one, too
    else if (news) room._emit("message", m);
  }

  // ---- inbox and broadcast ----

  #personal(m) {
    const last = { topic: "inbox", ...this.#inbox };
    const news = advance(this.#inbox, m);
    if (news === GAP) {
      // The inbox is sent once a connection: nothing can be asked for.
      this.#inbox = position(m);
      this._emit("gap", last);
    }
    if (news) this.#deliver(m);
  }

  #deliver(m) {
    this.#keep(m);
    this._emit(m.type, m);
  }

  #keep(m) {
    if (m.type !== "notification") return;
    this.unread++;
    if (this.notifications.push(m) > KEPT) this.notifications.shift();
  }

  #mail(h) {
    const last = { topic: "inbox", ...this.#inbox };
    const messages = this.#entries(h, "private", "notification");
    const missed = resume(this.#inbox, h, messages);
    if (missed) return missed.forEach((m) => this.#deliver(m));
    for (const m of messages) if (h.epoch !== last.epoch || m.offset > last.offset) this.#keep(m);
    if (last.epoch) this._emit("gap", last);
    this._emit("inbox", { ...position(h), messages });
  }

  /** The entries of a history or inbox that are of these types. */
  #entries(h, ...types) {
    const all = h.messages.map(parse);
    if (all.includes(undefined)) this.#malformed();
    return all.filter((m) => types.includes(m?.type));
  }

  /** The broadcast topic has no replay, and the sender is left out: only a reconnect can tell that something was missed. */
  #seen({ epoch, offset }) {
    if (epoch && epoch === this.#all.epoch && offset > this.#all.offset) this.#all.offset = offset;
  }

  // ---- messages of the server ----

  #malformed() {
    this.#error("bad_message", "malformed message");
  }

  #receive(text) {
    this.#received++;
    let raw;
    try {
      raw = JSON.parse(text);
    } catch {}
    const m = parse(raw);
    if (m === undefined) return this.#malformed();
    if (m === null) return; // P1.6
    const room = m.room !== undefined && !this.#leaving.has(m.room) ? this.#rooms.get(m.room) : undefined;
    switch (m.type) {
      case "connected":
        return this.#up || this.#connected(m);
      case "ack":
      case "reply":
      case "pong":
        return this.#answer(m);
      case "error":
        return this.#refused(m);
      case "message":
        return room && this.#message(room, m);
      case "history":
        return m.id === undefined ? room && this.#history(room, m) : this.#answer({ ...m, messages: this.#entries(m, "message") });
      case "presence":
        return room?._presence(m);
      case "system":
        return room?._emit("system", m);
      case "signal":
        return (m.room === undefined ? this : room)?._emit("signal", m);
      case "private":
      case "notification":
        return this.#personal(m);
      case "inbox":
        return this.#mail(m);
      case "broadcast":
        this.#seen(m);
        return this._emit("broadcast", m);
      case "bye":
        this.#bye = m;
        this._emit("bye", m);
    }
  }

  #connected(m) {
    const { clientId, userId = clientId, username, maxMessageSize, pingInterval, epoch, offset } = m;
    this.#stopTimers();
    this.#up = true;
    this.#since = Date.now();
    if (userId !== this.userId) this.#inbox = {}; // another topic: its positions say nothing about the old one
    Object.assign(this, { clientId, userId, username });
    this.#maxSize = maxMessageSize || Infinity;
    if (pingInterval) this.#watch(Math.max(pingInterval, PROBE_MS), this.#received);
    const last = { topic: "broadcast", ...this.#all };
    this.#all = { epoch, offset };
    for (const room of this.#rooms.values()) this.#join(room);
    this.#flush();
    this.#set("connected");
    if (this.#up) this._emit("connected", { clientId, userId, username });
    if (last.epoch && (epoch !== last.epoch || offset > last.offset)) this._emit("gap", last);
  }

  #refused({ id, code = "unknown", message }) {
    const p = this.#pending.get(id);
    if (!p) return this.#error(code, message);
    if (p.once || !(code === "closing" || code === "unavailable")) return this.#settle(id).reject(failure(code, message));
    // Perhaps stored, perhaps not: only the same id is safe to send again, on this connection or the next.
    p.ws = undefined;
    this.#later(this.#backoff(3), () => this.#flush(p.room));
  }
}

/** Connects to a parley hub and stays connected. Returns at once. */
export const connect = (url, options = {}) => new Client(url, options);
