// Joining and leaving in any order, over any network: the last action wins, and no ghost stays (F30).
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import fc from "fast-check";
import { ROOM_EVENTS, fakeTime, record, settled, start, tick } from "./harness.js";

fakeTime({ beforeEach, afterEach });

const NAMES = ["a", "b", "__proto__"];

/** Rooms on the server: it answers in order, and refuses now and then. */
class Server {
  tops = new Map(NAMES.map((name) => [name, 0]));

  attach(socket) {
    Object.assign(this, { socket, taken: 0, outbox: [], members: new Set() });
    socket.accept();
  }

  publish(room) {
    const offset = this.tops.get(room) + 1;
    this.tops.set(room, offset);
    if (this.members?.has(room)) this.outbox.push({ type: "message", room, userId: "u", username: "n", content: offset, timestamp: 1, epoch: "e", offset });
  }

  take(refuse) {
    const m = this.socket?.sent[this.taken];
    if (!m) return false;
    this.taken++;
    if (!["join", "leave"].includes(m.type)) return true;
    const answer = { type: "ack", id: m.id };
    if (refuse) Object.assign(answer, { type: "error", code: "rate_limited", message: "slow down" });
    else if (m.type === "leave") this.members.delete(m.room);
    else {
      this.members.add(m.room);
      const top = this.tops.get(m.room);
      const missed = Array.from({ length: top - (m.offset ?? 0) }, (_, i) => i + 1 + (m.offset ?? 0));
      const messages = missed.map((offset) => ({ type: "message", room: m.room, userId: "u", username: "n", content: offset, timestamp: 1, epoch: "e", offset }));
      this.outbox.push({ type: "history", room: m.room, epoch: "e", offset: top, messages, ...(m.offset !== undefined && { recovered: true }) });
    }
    this.outbox.push(answer);
    return true;
  }

  deliver() {
    const m = this.outbox?.shift();
    if (m) this.socket.say(m);
    return m !== undefined;
  }
}

const step = fc.oneof(
  { weight: 3, arbitrary: fc.tuple(fc.constant("join"), fc.constantFrom(...NAMES)) },
  { weight: 3, arbitrary: fc.tuple(fc.constant("leave"), fc.constantFrom(...NAMES)) },
  { weight: 2, arbitrary: fc.tuple(fc.constant("publish"), fc.constantFrom(...NAMES)) },
  { weight: 4, arbitrary: fc.tuple(fc.constantFrom("take", "take", "take", "refuse")) },
  { weight: 5, arbitrary: fc.tuple(fc.constant("deliver")) },
  { weight: 1, arbitrary: fc.tuple(fc.constantFrom("drop", "wait", "wait")) },
);

test("the last action wins, on both sides, and each room hears its own messages only", async () => {
  let left = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 150, size: "max" }), async (steps) => {
      const t = await start();
      const server = new Server();
      const rooms = new Map(); // name -> the Room in use
      const all = []; // every Room ever: { room, events, left }
      const attachNew = () => t.socket() !== server.socket && !server.gone?.has(t.socket()) && server.attach(t.socket());
      server.gone = new Set();
      const does = {
        join(name) {
          if (rooms.has(name)) return assert.equal(t.client.join(name), rooms.get(name));
          const room = t.client.join(name);
          for (const old of all) assert.notEqual(old.room, room);
          room.joined.catch(() => {});
          rooms.set(name, room);
          all.push({ room, events: record(room, ROOM_EVENTS) });
        },
        leave(name) {
          rooms.get(name)?.leave();
          const entry = all.find(({ room }) => room === rooms.get(name));
          if (entry) entry.left = entry.events.length;
          rooms.delete(name);
        },
        publish: (name) => server.publish(name),
        take: () => server.take(false),
        refuse: () => server.take(true),
        deliver: () => server.deliver(),
        drop() {
          const { socket } = server;
          if (!socket) return;
          server.gone.add(socket);
          Object.assign(server, { socket: null, outbox: [], members: null });
          socket.drop(1006);
        },
        async wait() {
          await tick(700);
          attachNew();
        },
      };
      attachNew();
      for (const [name, argument] of steps) {
        await does[name](argument);
        await settled();
      }
      for (let i = 0; i < 40; i++) {
        await tick(1000);
        attachNew();
        while (server.take(false) || server.deliver()) await settled();
      }
      assert.deepEqual([...server.members].sort(), [...rooms.keys()].sort(), "who the server believes to be there");
      for (const name of NAMES) server.publish(name);
      while (server.deliver());
      for (const { room, events, left } of all) {
        if (left !== undefined) assert.equal(events.length, left, "an event after leave()");
        // Each starts with a history and goes on without a hole.
        let at;
        for (const [event, p] of events) {
          if (event === "history") at = p.offset;
          if (event === "message") assert.equal(p.offset, ++at);
          assert.notEqual(event, "gap");
        }
        if (left === undefined) assert.equal(at, server.tops.get(room.name), "what is joined is up to date");
      }
      if (all.length > rooms.size) left++;
      assert.equal(t.events.filter(([e]) => e === "error").length, 0);
      t.client.close();
    }),
    { numRuns: 500, includeErrorInReport: true },
  );
  assert.ok(left > 100, `rooms were left in ${left} runs only`);
});
