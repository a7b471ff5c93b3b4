// A WebSocket without a network, and helpers to play the server on it.
import assert from "node:assert/strict";
import fc from "fast-check";
import { connect } from "../parley.js";

export class FakeSocket {
  static OPEN = 1;
  readyState = 0;
  sent = []; // parsed messages of the client
  closedWith = null; // the code given to close()

  constructor(url, protocols) {
    Object.assign(this, { url, protocols });
  }

  send(text) {
    if (this.readyState === 0) throw new Error("InvalidStateError: still connecting");
    if (this.readyState === 1) this.sent.push(JSON.parse(text));
  }

  /** As on a dead network: the close event comes much later or, here, never. */
  close(code) {
    this.closedWith ??= code ?? null;
    this.readyState = 3;
  }

  // ---- the server's side ----

  accept(connected = {}) {
    this.readyState = 1;
    this.onopen?.({});
    this.say({ type: "connected", clientId: "c1", userId: "u1", ...connected });
    return this;
  }

  say(...messages) {
    for (const m of messages) this.raw(JSON.stringify(m));
  }

  raw(data) {
    this.onmessage?.({ data });
  }

  drop(code = 1006, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  /** The client's messages of a type. */
  of(type) {
    return this.sent.filter((m) => m.type === type);
  }

  last(type) {
    return this.of(type).at(-1);
  }
}

/** Lets everything that waits for a promise run; real time does not pass. */
export const settled = () => new Promise((resolve) => setImmediate(resolve));

/** A client whose sockets and events are recorded. */
export async function start(options = {}) {
  const sockets = [];
  const client = connect(options.url ?? "ws://hub.test/realtime", {
    WebSocket: class extends FakeSocket {
      constructor(...args) {
        super(...args);
        sockets.push(this);
      }
    },
    ...options,
  });
  const events = record(client, [
    "state", "connected", "broadcast", "private", "notification", "signal", "error", "bye", "inbox", "gap", "recovered", "marked", "joined",
  ]);
  await settled();
  return { client, sockets, events, socket: () => sockets.at(-1), states: () => events.filter(([e]) => e === "state").map(([, p]) => p.state) };
}

/** As start, and connected. */
export async function online(options = {}, connected = {}) {
  const t = await start(options);
  t.socket().accept(connected);
  return t;
}

export const ROOM_EVENTS = ["message", "history", "system", "presence", "signal", "gap", "recovered", "left"];

/** The list that fills with [event, payload]. */
export function record(emitter, names) {
  const events = [];
  for (const name of names) emitter.on(name, (payload) => events.push([name, payload]));
  return events;
}

/** A client in room "r" at position e/`top`. */
export async function inRoom(top = 0, options, connected) {
  const t = await online(options, connected);
  const room = t.client.join("r", { username: "me" });
  const roomEvents = record(room, ROOM_EVENTS);
  t.socket().say(history(range(1, top)), { type: "ack", id: t.socket().last("join").id });
  await room.joined;
  return { ...t, room, roomEvents };
}

export const offsets = (events) => events.filter(([e]) => e === "message").map(([, m]) => m.offset);
export const names = (events) => events.map(([e]) => e);

/** Waits for the delay after a lost connection. */
export async function nextAttempt(t) {
  const before = t.sockets.length;
  for (let i = 0; i < 100 && t.sockets.length === before; i++) await tick(500);
  return t.socket();
}

/** Waits for the delay after a lost connection, and accepts the next one. */
export const reconnect = async (t, connected) => (await nextAttempt(t)).accept(connected);

export const message = (offset, more = {}) => ({
  type: "message", room: "r", userId: "u2", username: "kim", content: `m${offset}`, timestamp: 1, epoch: "e", offset, ...more,
});

export const history = (offsets, more = {}) => ({
  type: "history", room: "r", epoch: "e", offset: offsets.at(-1) ?? 0, messages: offsets.map((o) => message(o)), ...more,
});

export const range = (from, to) => Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i);

const SEED = Number(process.env.PARLEY_SEED ?? 1);
fc.configureGlobal({ seed: SEED });

/**
 * Fake time for all tests of a file, and the same chance each time (PARLEY_SEED=n for another): what a test meets must
 * not depend on the draw of the day. Not the timers of node:test: there a timer set by a timer counts from the end of
 * the tick, and what is still set can't be asked.
 */
export const clock = {
  now: 0, // monotonic
  wall: 0, // what Date.now() is ahead of it
  timers: new Map(), // id -> { at, fn }
  ids: 0,
};

export function fakeTime({ beforeEach, afterEach }) {
  const real = { setTimeout, clearTimeout, now: Date.now, random: Math.random };
  const { performance } = globalThis;
  beforeEach(() => {
    Object.assign(clock, { now: 1_000_000, wall: 1.7e12, timers: new Map() });
    globalThis.setTimeout = (fn, ms) => {
      // What browsers and Node do with a delay that does not fit.
      const delay = ms >= 0 && ms < 2 ** 31 ? ms : 1;
      clock.timers.set(++clock.ids, { at: clock.now + delay, fn });
      return clock.ids;
    };
    globalThis.clearTimeout = (id) => void clock.timers.delete(id);
    Date.now = () => clock.now + clock.wall;
    performance.now = () => clock.now;
    Math.random = chance(SEED);
  });
  afterEach(() => {
    const left = clock.timers.size;
    Object.assign(globalThis, { setTimeout: real.setTimeout, clearTimeout: real.clearTimeout });
    Date.now = real.now;
    Math.random = real.random;
    delete performance.now;
    assert.equal(left, 0, "timers left: was a client not closed, or did it keep some?");
  });
}

/** Numbers in [0, 1): a linear congruential generator, with the constants of Numerical Recipes. */
function chance(seed) {
  let state = seed;
  return () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
}

/** Lets time pass, timer by timer. */
export async function tick(ms) {
  const end = clock.now + ms;
  await settled();
  for (;;) {
    let next;
    for (const [id, t] of clock.timers) if (t.at <= end && !(t.at >= next?.at)) next = { id, ...t };
    if (!next) break;
    clock.timers.delete(next.id);
    clock.now = Math.max(clock.now, next.at);
    next.fn();
    await settled();
  }
  clock.now = end;
}
