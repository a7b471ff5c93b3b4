// Several devices of one user against a model of the server, whose nodes tell each other late, in another order, or not
// at all: when it is quiet every device lists what the server has, each entry in the server's state, and the count is
// the server's (P4.10, P8.1 to P8.7).
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import fc from "fast-check";
import { openInbox } from "../inbox.js";
import { fakeTime, range, settled, start, tick } from "./harness.js";

fakeTime({ beforeEach, afterEach });

const KEEP = 9; // entries in the log
const AT_ONCE = 5; // entries in a list or a page
const DEVICES = 3;
const AS = { read: "read", unread: "unread", archive: "archived" };

const spans = (offsets) => {
  const all = [];
  for (const o of offsets) all.at(-1)?.[1] === o - 1 ? (all.at(-1)[1] = o) : all.push([o, o]);
  return all;
};

/** What all nodes share. */
class Store {
  generation = 1;
  version = 0;
  top = 0;
  entries = []; // { m, state, over }
  truncated = 0;

  get epoch() {
    return `e${this.generation}`;
  }

  count() {
    const unread = this.entries.filter((e) => e.state === "unread" && !e.over).length;
    return { epoch: this.epoch, unread, version: this.version };
  }

  append(n) {
    const offset = ++this.top;
    const what = n % 2 ? { type: "notification", id: `id${n}`, data: n } : { type: "private", senderId: "u2", message: n };
    const m = { ...what, timestamp: n, epoch: this.epoch, offset };
    this.entries.push({ m, state: "unread", over: false });
    for (const e of this.entries.splice(0, this.entries.length - KEEP)) if (e.state === "unread" && !e.over) this.truncated = e.m.offset;
    this.version++;
    return { ...m, ...this.count() };
  }

  mark({ type, epoch, offset = 0, offsets = [], ids = [] }) {
    if (epoch !== undefined && epoch !== this.epoch) return { code: "reset" };
    if (Math.max(offset, ...offsets) > this.top) return { code: "ahead" };
    if (type !== "unread" && offset >= this.truncated) this.truncated = 0;
    const as = AS[type];
    const changed = this.entries.filter(({ m, state }) =>
      (m.offset <= offset || offsets.includes(m.offset) || ids.includes(m.id)) && state !== as && !(as === "read" && state === "archived"));
    for (const e of changed) e.state = as;
    if (changed.length) this.version++;
    return { marked: changed.length && { type: "marked", as, offsets: spans(changed.map((e) => e.m.offset)), ...this.count() } };
  }

  list(entries) {
    const of = (state) => spans(this.entries.filter((e) => e.state === state).map((e) => e.m.offset));
    const [read, archived] = [of("read"), of("archived")];
    return {
      type: "inbox", offset: this.top, ...this.count(),
      ...(read.length && { read }), ...(archived.length && { archived }), ...(this.truncated && { truncated: this.truncated }),
      messages: entries.map(({ m, over }) => (over ? { type: "expired", epoch: m.epoch, offset: m.offset } : m)),
    };
  }

  page({ before = 0, limit }) {
    const all = this.entries.filter((e) => !before || e.m.offset < before);
    const entries = all.slice(-Math.min(limit, AT_ONCE));
    return { ...this.list(entries), more: all.length > entries.length };
  }

  since(at) {
    if (!at) return this.list(this.entries.slice(-AT_ONCE));
    const missed = this.entries.filter((e) => e.m.offset > at.offset);
    const code = at.epoch !== this.epoch ? "reset" : at.offset > this.top ? "ahead" : missed.length < this.top - at.offset ? "gone" : undefined;
    return code ? { ...this.list(this.entries.slice(-AT_ONCE)), recovered: false, code } : { ...this.list(missed), recovered: true };
  }

  lose() {
    Object.assign(this, { generation: this.generation + 1, version: 0, top: 0, entries: [], truncated: 0 });
  }
}

/** A page on a node of its own. */
class Device {
  outbox = []; // what the node will send: answers in their order, what other nodes tell in any

  constructor(t, store) {
    Object.assign(this, { t, store, box: openInbox(t.client) });
    this.stop = this.box.on("change", () => this.look());
  }

  /** A page may look at any time: nothing it sees is in two places, or out of order. */
  look() {
    const offsets = this.box.items.map((i) => i.offset);
    assert.deepEqual(offsets, [...new Set(offsets)].sort((a, b) => b - a));
    assert.ok(this.box.items.every((i) => i.epoch === this.box.items[0].epoch));
  }

  attach() {
    if (this.t.socket() === this.last) return;
    const socket = (this.last = this.socket = this.t.socket());
    this.taken = 0;
    const offered = socket.protocols.find((p) => p.startsWith("parley.inbox."))?.slice(13).split(".");
    const at = offered && { offset: Number(offered[0]), epoch: Buffer.from(offered[1], "base64url").toString() };
    socket.accept({ clientId: "c", userId: "kim", receipts: true });
    this.outbox = [this.store.since(at)];
  }

  drop(code = 1006) {
    const { socket } = this;
    Object.assign(this, { socket: null, outbox: [] });
    socket?.drop(code);
  }

  take(tellAll) {
    const m = this.socket?.sent[this.taken];
    if (!m) return false;
    this.taken++;
    if (m.type === "history") this.outbox.push({ ...this.store.page(m), id: m.id });
    else if (m.type === "received") {
      assert.equal(m.id, undefined);
      if (m.epoch === this.store.epoch) assert.ok(m.offset <= this.store.top);
    } else {
      const { code, marked } = this.store.mark(m);
      const ack = code ? { type: "error", code, message: "no" } : { type: "ack", ...this.store.count() };
      if (marked) tellAll(marked);
      this.outbox.push({ ...ack, id: m.id });
    }
    return true;
  }

  deliver() {
    const m = this.outbox.shift();
    if (m) this.socket.say(m);
    return m !== undefined;
  }
}

const often = ["note", "note", "note", "note", "read", "read", "archive", "unread", "all", "ids", "list", "argue", "argue", "more", ...Array(10).fill("take"), ...Array(10).fill("deliver"), "wait", "wait"];
const STEPS = [...often, "swap", "swap", "swap", "swap", "swap", "lost", "twice", "drop", "expire", "lose"].flatMap((step) => range(0, DEVICES - 1).map((d) => [step, d]));

test("what a device shows is what the server has, however the nodes tell each other", async () => {
  const seen = { gap: 0, recovered: 0, marked: 0, refused: 0, truncated: 0, early: 0 };
  await fc.assert(
    fc.asyncProperty(fc.array(fc.constantFrom(...STEPS), { minLength: 10, maxLength: 200, size: "max" }), async (steps) => {
      const store = new Store();
      const devices = [];
      for (let i = 0; i < DEVICES; i++) devices.push(new Device(await start(), store));
      let n = 0;
      const open = steps.length % 2 === 1; // all is told, in the end
      let hidden = false; // somebody may miss something and can't know
      const promises = [];
      const tellAll = (m) => {
        for (const d of devices) if (d.socket) d.outbox.push(m);
      };
      const told = (m) => m && m.id === undefined && m.type !== "inbox";
      const watch = (p) => promises.push(p.catch((e) => (seen.refused++, assert.ok(["reset", "ahead", "disconnected"].includes(e.code), e.code))));
      const one = (d) => d.box.items[n % (d.box.items.length || 1)];
      const mark = (does) => (d) => one(d) && watch(d.box[does](one(d)));
      const does = {
        note: () => {
          const m = store.append(n++);
          tellAll(m);
        },
        read: mark("markRead"),
        unread: mark("markUnread"),
        archive: mark("archive"),
        // The same entry one way and another, and it is not told in this order.
        argue: (d) => {
          for (const how of n++ % 2 ? ["archive", "unread", "read"] : ["read", "archive", "unread"]) does[how](d);
          while (d.take(tellAll));
          devices.forEach(does.swap);
        },
        all: (d) => watch(d.box.markRead()),
        ids: (d) => watch(d.box.archive({ ids: [`id${n - 1}`, `id${n - 2}`] })),
        list: (d) => watch(d.box.markUnread(d.box.items.slice(0, 2))),
        more: (d) => watch(d.box.more()),
        take: (d) => d.take(tellAll),
        deliver: (d) => d.deliver(),
        // One of what other nodes told is overtaken by what follows, also by a mark of it (P8.5).
        swap: (d) => {
          const rest = d.outbox.findIndex((m) => !told(m));
          const [first, ...others] = d.outbox.slice(0, rest < 0 ? undefined : rest);
          if (!others.length) return;
          const places = 1 + (n % others.length);
          d.outbox.splice(0, places + 1, ...others.slice(0, places), first);
          seen.early += first.type !== "marked" && others.slice(0, places).some((m) => m.type === "marked");
        },
        // One is lost between nodes. The node finds out, for a mark by the version, and lets the client come back (4004).
        lost: (d) => {
          if (!told(d.outbox[0]) || open) return;
          if (d.outbox.shift().type === "marked") d.drop(4004);
          else hidden = true;
        },
        twice: (d) => told(d.outbox[0]) && d.outbox.unshift(d.outbox[0]),
        drop: (d) => d.drop(),
        expire: () => {
          const e = store.entries[n++ % (store.entries.length || 1)];
          if (e && !open) e.over = hidden = true; // the next message has the number right (P8.1)
        },
        lose: () => {
          if (n++ % 10) return;
          store.lose();
          for (const d of devices) if (d.socket) d.outbox.push(store.since({}));
        },
        wait: async () => {
          await tick(600);
          devices.forEach((d) => d.attach());
        },
      };
      const sync = () => {
        for (const d of devices) if (d.t.client.state !== "connected" && d.socket) Object.assign(d, { socket: null, outbox: [] });
      };
      const quiet = async () => {
        for (let i = 0; i < 200; i++) {
          let busy = false;
          sync();
          for (const d of devices) {
            d.attach();
            while (d.socket && d.t.client.state === "connected" && (d.take(tellAll) || d.deliver())) busy = true;
          }
          await settled();
          if (!busy && devices.every((d) => d.t.client.state === "connected" && d.taken === d.socket.sent.length && !d.outbox.length)) return;
          await tick(700);
        }
        assert.fail("no end of it");
      };
      const check = () => {
        const { epoch, unread } = store.count();
        const kept = new Map(store.entries.filter((e) => !e.over).map((e) => [e.m.offset, e.state]));
        for (const { box } of devices) {
          assert.equal(box.unread, unread, "count");
          const items = box.items.filter((i) => kept.has(i.offset));
          assert.ok(items.every((i) => i.epoch === epoch));
          for (const { offset, state } of items) assert.equal(state, kept.get(offset), `state of ${offset}`);
          // From the oldest one listed on, nothing is missing; the rest of the count is what is not listed.
          const listed = new Set(items.map((i) => i.offset));
          const rest = [...kept].filter(([o]) => !listed.has(o));
          assert.ok(rest.every(([o]) => !(o > box.items.at(-1)?.offset)), "a hole in the list");
          const open = (states) => states.filter((s) => s === "unread").length;
          assert.equal(open(items.map((i) => i.state)) + open(rest.map(([, s]) => s)), unread);
          if (rest.length) assert.ok(box.hasMore, "older ones can be had");
          if (box.truncated) seen.truncated++;
        }
      };
      devices.forEach((d) => d.attach());
      for (const [step, i] of steps) {
        sync();
        await does[step](devices[i]);
        await settled();
      }
      await quiet();
      if (hidden) does.note(); // it shows what was lost
      await quiet();
      check();
      for (const d of devices) while (d.box.hasMore) {
        const more = d.box.more();
        await quiet();
        await more;
      }
      check();
      await Promise.all(promises);
      for (const { t, box } of devices) {
        assert.deepEqual(new Set(store.entries.filter((e) => !e.over).map((e) => e.m.offset).filter((o) => !box.items.some((i) => i.offset === o))), new Set(), "all of it");
        assert.equal(t.events.filter(([e]) => e === "error").length, 0);
        for (const [e, p] of t.events) if (e in seen) seen[e] += e !== "recovered" || p.missed > 0;
        t.client.close();
      }
    }),
    { numRuns: 300, includeErrorInReport: true },
  );
  // The test is worth nothing if the model never gets into trouble.
  for (const [what, times] of Object.entries(seen)) assert.ok(times > 20, `${what}: ${JSON.stringify(seen)}`);
});
