// The inbox and the broadcast against a model of the server on a bad network: every message once and in order, or a
// gap; an own broadcast never; every own broadcast stored once or told of (F25, F26, F35, P4.11 to P4.13).
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import fc from "fast-check";
import { fakeTime, settled, start, tick } from "./harness.js";

fakeTime({ beforeEach, afterEach });

const KEEP = 6; // messages in a log

class Log {
  generation = 1;
  entries = [];
  top = 0;
  truth = new Map(); // "epoch/offset" -> message

  constructor(name) {
    this.name = name;
  }

  get epoch() {
    return `${this.name}${this.generation}`;
  }

  append(m) {
    const entry = { ...m, epoch: this.epoch, offset: ++this.top };
    this.entries = [...this.entries, entry].slice(-KEEP);
    this.truth.set(`${entry.epoch}/${entry.offset}`, entry);
    return entry;
  }

  lose() {
    Object.assign(this, { generation: this.generation + 1, entries: [], top: 0 });
  }

  /** What a client gets that was at a position, if it was at one. */
  since(at) {
    const { epoch, top: offset } = this;
    const missed = this.entries.filter((e) => e.offset > at?.offset);
    if (!at) return { epoch, offset, messages: this.entries };
    if (at.epoch === epoch && missed.length === offset - at.offset) return { epoch, offset, recovered: true, messages: missed };
    const code = at.epoch !== epoch ? "reset" : at.offset > offset ? "ahead" : "gone";
    return { epoch, offset, recovered: false, code, messages: this.entries };
  }
}

class Server {
  inbox = new Log("i");
  all = new Log("b");
  acked = new Map(); // "user/id" -> the ack
  stored = []; // contents of own broadcasts
  clients = 0;
  sessions = new Map(); // secret -> client id
  own = new Set(); // client ids of the client

  /** user: who the client is now, unless its session says so. */
  attach(socket, { refuse, user }) {
    const offered = (kind) => socket.protocols.find((p) => p.startsWith(`parley.${kind}.`))?.slice(8 + kind.length);
    const position = (kind) => {
      const entry = offered(kind);
      if (entry === undefined) return undefined;
      const [offset, epoch] = entry.split(".");
      return { epoch: Buffer.from(epoch, "base64url").toString(), offset: Number(offset) };
    };
    const secret = offered("session");
    const kept = refuse ? undefined : this.sessions.get(secret);
    this.clientId = kept ?? `c${++this.clients}`;
    this.userId = user ?? this.clientId;
    this.own.add(this.clientId);
    const session = `s-${socket.protocols.length}-${this.sessions.size}`;
    this.sessions.set(session, this.clientId);
    Object.assign(this, { socket, taken: 0, outbox: [], acks: [] });
    const missed = position("broadcast") && this.all.since(position("broadcast"));
    const { epoch, top: offset } = this.all;
    socket.accept({ clientId: this.clientId, userId: this.userId, session, epoch, offset, ...(secret && { resumed: !!kept }) });
    if (secret && !kept) this.outbox.push({ type: "error", code: "bad_session", message: "go on" });
    if (missed) this.outbox.push({ type: "history", ...missed });
    if (user) this.outbox.push({ type: "inbox", ...this.inbox.since(position("inbox")) });
  }

  detach() {
    Object.assign(this, { socket: null, outbox: [], acks: [] });
  }

  live(log, m) {
    const entry = log.append(m);
    if (this.socket) this.outbox.push(entry);
  }

  take() {
    const m = this.socket?.sent[this.taken];
    if (!m) return false;
    this.taken++;
    if (m.type !== "broadcast") return true;
    const key = `${this.userId}/${m.id}`;
    const before = this.acked.get(key);
    if (!before) {
      const { epoch, offset } = this.all.append({ type: "broadcast", senderId: this.userId, clientId: this.clientId, message: m.message });
      this.acked.set(key, { epoch, offset });
      this.stored.push(m.message);
    }
    this.acks.push({ type: "ack", id: m.id, ...this.acked.get(key), ...(before && { duplicate: true }) });
    return true;
  }

  /** Acks have no place in the order of a topic. */
  ack() {
    const m = this.acks.shift();
    if (m) this.outbox.push(m);
    return m !== undefined;
  }

  deliver() {
    const m = this.outbox.shift();
    if (m) this.socket.say(m);
    return m !== undefined;
  }
}

/** What a page that believes the events of a topic would think, checked at every step; own: what it must not see. */
function page(events, log, own, at, first) {
  let told = first; // whether a jump is allowed
  const follows = (p, event) => {
    const message = LIVE.includes(event);
    assert.equal(p.epoch, at.epoch);
    assert.ok(message ? p.offset > at.offset : p.offset >= at.offset, "not in order, or twice");
    for (let o = at.offset + 1; o < p.offset + !message; o++) assert.ok(own.has(log.truth.get(`${p.epoch}/${o}`).clientId), "missing");
  };
  for (const [event, p] of events) {
    if (event === "gap") {
      if (at && !told) follows(p, "gap"); // it starts at the last message
      told = true;
    } else if (event === "inbox") {
      assert.ok(told, "a list without a gap before it");
      told = false;
      at = { epoch: p.epoch, offset: p.offset };
      for (const m of p.messages) assert.deepEqual(m, log.truth.get(`${m.epoch}/${m.offset}`));
    } else {
      if (event !== "recovered") {
        assert.deepEqual(p, log.truth.get(`${p.epoch}/${p.offset}`));
        assert.ok(!own.has(p.clientId), "its own");
      }
      if (!told) {
        follows(p, event);
      } else if (at?.epoch === p.epoch && event !== "recovered") assert.ok(p.offset > at.offset, "twice, after a gap");
      told = false;
      at = { epoch: p.epoch, offset: p.offset };
    }
  }
  return at;
}

const often = ["note", "cast", "cast", "own", "own", "take", "take", "ack", "ack", ...Array(6).fill("deliver"), "wait", "wait"];
const STEPS = [...often, ...often, "skip", "double", "swap", "loseInbox", "loseAll", "drop", "drop", "refuse"];
const LIVE = ["broadcast", "notification", "private"];

for (const anonymous of [false, true]) {
  test(`each once and in order or a gap, ${anonymous ? "for anonymous users" : "for known users"}`, async () => {
    const seen = { gap: 0, recovered: 0, duplicate: 0, disconnected: 0 };
    await fc.assert(
      fc.asyncProperty(fc.array(fc.constantFrom(...STEPS), { minLength: 5, maxLength: 120, size: "max" }), async (steps) => {
        const t = await start();
        const server = new Server();
        const sends = [];
        let n = 0;
        let refuse = false;
        let first;
        const attachNew = () => {
          if (t.socket() === server.last) return;
          server.last = t.socket();
          server.attach(t.socket(), { refuse, user: anonymous ? undefined : "kim" });
          first ??= { epoch: server.all.epoch, offset: server.all.top };
          refuse = false;
        };
        const isLive = (m) => LIVE.includes(m?.type);
        const does = {
          note: () => server.live(server.inbox, n++ % 2 ? { type: "notification", data: n, timestamp: n } : { type: "private", senderId: "", message: n, timestamp: n }),
          cast: () => server.live(server.all, { type: "broadcast", senderId: "u2", message: n++ }),
          own: () => {
            const message = `own ${n++}`;
            sends.push({ message, promise: t.client.broadcast(message).then((a) => (seen.duplicate += !!a.duplicate, "stored"), (e) => e.code) });
          },
          take: () => server.take(),
          ack: () => server.ack(),
          deliver: () => server.deliver(),
          skip: () => isLive(server.outbox?.[0]) && server.outbox.shift(),
          double: () => isLive(server.outbox?.[0]) && server.outbox.unshift(server.outbox[0]),
          swap: () => {
            const [a, b] = server.outbox ?? [];
            if (isLive(a) && isLive(b)) server.outbox.splice(0, 2, b, a);
          },
          loseInbox: () => {
            server.inbox.lose();
            if (server.socket && !anonymous) server.outbox.push({ type: "inbox", ...server.inbox.since({}) });
          },
          loseAll: () => server.all.lose(),
          drop: () => {
            const { socket } = server;
            server.detach();
            socket?.drop(1006);
          },
          refuse: () => (refuse = true),
          wait: async () => {
            await tick(600);
            attachNew();
          },
        };
        if (anonymous) does.note = does.loseInbox = () => {}; // P5: no inbox
        attachNew();
        for (const step of steps) {
          if (t.client.state !== "connected" && server.socket) server.detach(); // the client has hung up
          await does[step]();
        }

        const quiet = async () => {
          for (let i = 0; i < 200; i++) {
            if (t.client.state !== "connected") {
              server.detach();
              await tick(1000);
              attachNew();
            } else if (!(server.take() || server.ack() || server.deliver())) {
              await settled();
              if (t.client.state === "connected" && !server.outbox.length) return;
            }
          }
          assert.fail("no end of it");
        };
        await quiet();
        does.note();
        does.cast();
        await quiet();

        const of = (topic, ...events) => t.events.filter(([e, p]) => events.includes(e) || p.topic === topic);
        const casts = page(of("broadcast", "broadcast"), server.all, server.own, first, false);
        assert.deepEqual(casts, { epoch: server.all.epoch, offset: server.all.top });
        if (!anonymous) {
          const mail = page(of("inbox", "private", "notification", "inbox"), server.inbox, new Set(), undefined, true);
          assert.deepEqual(mail, { epoch: server.inbox.epoch, offset: server.inbox.top });
        }
        for (const { message, promise } of sends) {
          const outcome = await promise;
          const times = server.stored.filter((m) => m === message).length;
          if (outcome === "stored") assert.equal(times, 1, message);
          else {
            assert.equal(outcome, "disconnected");
            assert.ok(anonymous && times <= 1, "only who became another user can't know");
            seen.disconnected++;
          }
        }
        assert.equal(t.events.filter(([e]) => e === "error").length, 0);
        for (const [e, p] of t.events) if (e in seen) seen[e] += e === "gap" || p.missed > 0;
        t.client.close();
      }),
      { numRuns: 600, includeErrorInReport: true },
    );
    // The test is worth nothing if the model never gets into trouble.
    assert.ok(seen.gap > 50 && seen.recovered > 50 && seen.duplicate > 50, JSON.stringify(seen));
    assert.equal(seen.disconnected > 20, anonymous, JSON.stringify(seen));
  });
}
