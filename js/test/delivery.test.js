// The promise of section 4, against a model of the server on a bad network: every message of a room once and in
// order, or a gap; every send stored once.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import fc from "fast-check";
import { ROOM_EVENTS, fakeTime, record, settled, start, tick } from "./harness.js";

fakeTime({ beforeEach, afterEach });

const KEEP = 8; // messages in the log

class Server {
  epoch = 1;
  log = []; // { offset, content, id }
  top = 0;
  everStored = []; // contents, over all epochs
  acked = new Map(); // id -> the ack
  socket = null;
  member = false;
  outbox = []; // on its way to the client
  truth = new Map(); // "epoch/offset" -> content

  attach(socket) {
    Object.assign(this, { socket, member: false, outbox: [], taken: 0 });
    socket.accept();
  }

  detach() {
    Object.assign(this, { socket: null, member: false, outbox: [] });
  }

  entry({ offset, content }) {
    return {
      type: "message", room: "r", userId: "u", username: "n", content, timestamp: 1, epoch: `e${this.epoch}`, offset,
    };
  }

  publish(content) {
    const stored = { offset: ++this.top, content };
    this.log.push(stored);
    if (this.log.length > KEEP) this.log.shift();
    this.everStored.push(content);
    this.truth.set(`e${this.epoch}/${this.top}`, content);
    if (this.member) this.outbox.push(this.entry(stored));
    return { epoch: `e${this.epoch}`, offset: this.top };
  }

  history(more, entries = this.log) {
    this.outbox.push({
      type: "history", room: "r", epoch: `e${this.epoch}`, offset: this.top, messages: entries.map((e) => this.entry(e)), ...more,
    });
  }

  loseLog() {
    Object.assign(this, { log: [], top: 0, epoch: this.epoch + 1 });
    if (this.member) this.history({ recovered: false }); // P4.10
  }

  /** Takes the next message of the client. */
  take() {
    const m = this.socket?.sent[this.taken];
    if (!m) return false;
    this.taken++;
    if (m.type === "join") {
      this.member = true;
      if (m.epoch === undefined) this.history({});
      else {
        const missed = this.log.filter((e) => e.offset > m.offset);
        const whole = m.epoch === `e${this.epoch}` && missed.length === this.top - m.offset;
        this.history({ recovered: whole }, whole ? missed : this.log);
      }
      this.outbox.push({ type: "ack", id: m.id });
    } else if (m.type === "message") {
      if (!this.member) this.outbox.push({ type: "error", id: m.id, code: "not_member", message: "join first" });
      else {
        const before = this.acked.get(m.id);
        if (!before) this.acked.set(m.id, this.publish(m.content));
        this.outbox.push({ type: "ack", id: m.id, ...this.acked.get(m.id), ...(before && { duplicate: true }) });
      }
    }
    return true;
  }

  deliver() {
    const m = this.outbox.shift();
    if (m) this.socket.say(m);
    return m !== undefined;
  }
}

/** What a page that believes the events would have on its screen, checked at every step. */
function page(events, truth) {
  let at = null;
  const seen = new Map();
  let gap = true; // before the first history
  for (const [event, p] of events) {
    if (event === "message") {
      assert.equal(p.epoch, at.epoch);
      assert.equal(p.offset, at.offset + 1, "not in order, or twice, or missing");
      at = { epoch: p.epoch, offset: p.offset };
      seen.set(`${p.epoch}/${p.offset}`, p.content);
    } else if (event === "gap") {
      assert.deepEqual({ epoch: p.epoch, offset: p.offset }, at, "a gap starts at the last message seen");
      gap = true;
    } else if (event === "history") {
      assert.ok(gap, "a history without a gap before it");
      gap = false;
      at = { epoch: p.epoch, offset: p.offset };
      for (const m of p.messages) seen.set(`${m.epoch}/${m.offset}`, m.content);
    } else if (event === "recovered") {
      assert.deepEqual({ epoch: p.epoch, offset: p.offset }, at);
    }
  }
  for (const [key, content] of seen) assert.equal(content, truth.get(key));
  return at;
}

const often = ["publish", "publish", "send", "take", "take", "take", "deliver", "deliver", "deliver", "deliver", "wait", "wait"];
const STEPS = [...often, ...often, "lose", "double", "swap", "skip", "skip", "drop", "drop"];

test("each message once and in order or a gap, each send stored once (F25, F26, F35)", async () => {
  let gaps = 0;
  let recoveries = 0;
  let resends = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(fc.constantFrom(...STEPS), { minLength: 5, maxLength: 120, size: "max" }), async (steps) => {
      const t = await start();
      const server = new Server();
      const room = t.client.join("r");
      const events = record(room, ROOM_EVENTS);
      const sends = [];
      let n = 0;
      const attachNew = () => {
        if (t.socket() && t.socket() !== server.last) {
          server.last = t.socket();
          server.attach(t.socket());
        }
      };
      const does = {
        publish: () => server.publish(`p${n++}`),
        send: () => sends.push({ content: `s${n}`, promise: room.send(`s${n++}`) }),
        take: () => server.take(),
        deliver: () => server.deliver(),
        // Live messages of a room only: acks and histories that get lost alone do not happen on TCP, but a hub
        // whose nodes lost a message between them looks like this.
        skip: () => server.outbox[0]?.type === "message" && server.outbox.shift(),
        double: () => server.outbox[0]?.type === "message" && server.outbox.unshift(server.outbox[0]),
        swap: () => {
          const [a, b] = server.outbox;
          if (a?.type === "message" && b?.type === "message") server.outbox.splice(0, 2, b, a);
        },
        lose: () => server.loseLog(),
        drop: () => {
          if (!server.socket) return;
          const { socket } = server;
          server.detach();
          socket.drop(1006);
        },
        wait: async () => {
          await tick(600);
          attachNew();
        },
      };
      attachNew();
      for (const step of steps) await does[step]();

      // The network recovers, and one more message shows whatever is still missing.
      for (let i = 0; i < 60 && t.client.state !== "connected"; i++) {
        await tick(1000);
        attachNew();
      }
      const quiet = async () => {
        while (server.take() || server.deliver()) await settled();
      };
      await quiet();
      server.publish("last");
      await quiet();

      const at = page(events, server.truth);
      assert.deepEqual(at, { epoch: `e${server.epoch}`, offset: server.top });
      for (const { content, promise } of sends) {
        await promise;
        assert.equal(server.everStored.filter((c) => c === content).length, 1, `${content} not once`);
      }
      assert.equal(t.events.filter(([e]) => e === "error").length, 0);
      gaps += events.filter(([e]) => e === "gap").length;
      recoveries += events.filter(([e, p]) => e === "recovered" && p.missed > 0).length;
      resends += t.sockets.slice(1).reduce((sum, s) => sum + s.of("message").length, 0);
      t.client.close();
    }),
    { numRuns: 1000 },
  );
  // The test is worth nothing if the model never gets into trouble.
  assert.ok(gaps > 100 && recoveries > 100 && resends > 100, `gaps ${gaps}, recoveries ${recoveries}, resends ${resends}`);
});
