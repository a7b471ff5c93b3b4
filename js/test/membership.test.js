// Joining and leaving in any order, by the page and by the application (P5.5, P5.6), over any network: the last action
// wins, and no ghost stays (F30).
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

  /** The application joins the client to a room, or ends its membership. */
  give(room) {
    if (!this.members || this.members.has(room)) return;
    this.members.add(room);
    this.outbox.push(this.history(room));
  }

  kick(room, reason) {
    if (this.members?.delete(room)) this.outbox.push({ type: "left", room, reason });
  }

  history(room, since) {
    const top = this.tops.get(room);
    const missed = Array.from({ length: top - (since ?? 0) }, (_, i) => i + 1 + (since ?? 0));
    const messages = missed.map((offset) => ({ type: "message", room, userId: "u", username: "n", content: offset, timestamp: 1, epoch: "e", offset }));
    return { type: "history", room, epoch: "e", offset: top, messages, ...(since !== undefined && { recovered: true }) };
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
      this.outbox.push(this.history(m.room, m.offset));
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
  { weight: 2, arbitrary: fc.tuple(fc.constantFrom("give", "kick"), fc.constantFrom(...NAMES)) },
  { weight: 2, arbitrary: fc.tuple(fc.constant("publish"), fc.constantFrom(...NAMES)) },
  { weight: 4, arbitrary: fc.tuple(fc.constantFrom("take", "take", "take", "refuse")) },
  { weight: 5, arbitrary: fc.tuple(fc.constant("deliver")) },
  { weight: 1, arbitrary: fc.tuple(fc.constantFrom("drop", "wait", "wait")) },
);

test("the last action wins, on both sides, and each room hears its own messages only", async () => {
  let left = 0;
  let kicked = 0;
  let given = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 150, size: "max" }), async (steps) => {
      const t = await start();
      const server = new Server();
      const rooms = new Map(); // name -> the Room in use
      const all = []; // every Room ever: { room, events, left }
      const attachNew = () => t.socket() !== server.socket && !server.gone?.has(t.socket()) && server.attach(t.socket());
      server.gone = new Set();
      const add = (room, asked) => {
        for (const old of all) assert.notEqual(old.room, room);
        room.joined.catch(() => {});
        rooms.set(room.name, room);
        const entry = { room, asked, events: record(room, ROOM_EVENTS) };
        all.push(entry);
        room.on("left", ({ reason }) => {
          kicked++;
          assert.equal(reason, "why");
          assert.equal(rooms.get(room.name), room);
          over(room.name);
        });
      };
      const over = (name) => {
        const entry = all.find(({ room }) => room === rooms.get(name));
        if (entry) entry.left = entry.events.length;
        rooms.delete(name);
      };
      t.client.on("joined", (room) => {
        given++;
        assert.ok(!rooms.has(room.name));
        add(room, false);
      });
      const does = {
        join(name) {
          const before = rooms.get(name);
          const entry = all.find(({ room }) => room === before);
          const room = t.client.join(name);
          if (entry?.asked) assert.equal(room, before);
          if (room !== before) {
            over(name); // it was coming back, and is left for the new one
            add(room, true);
          } else entry.asked = true;
        },
        leave(name) {
          rooms.get(name)?.leave();
          over(name);
        },
        give: (name) => server.give(name),
        kick: (name) => server.kick(name, "why"),
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
  assert.ok(kicked > 100 && given > 100, `${kicked} memberships were ended by the application, ${given} begun`);
});
