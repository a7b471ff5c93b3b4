// Rooms: joining, leaving, who is there, and what the application keeps of them.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { ROOM_EVENTS, fakeTime, history, inRoom, message, names, online, range, reconnect, record, settled, start, tick } from "./harness.js";

fakeTime({ beforeEach, afterEach });

describe("joining", () => {
  test("joined resolves after history; the position is sent on the next connection", async () => {
    const t = await online();
    const room = t.client.join("r", { username: "kim" });
    const events = record(room, ROOM_EVENTS);
    const join = t.socket().last("join");
    assert.deepEqual(join, { type: "join", room: "r", username: "kim", id: join.id });
    assert.match(join.id, /^[\w-]{1,64}$/);
    let done = false;
    room.joined.then((r) => (done = r === room));
    t.socket().say({ type: "ack", id: join.id, epoch: "e", offset: 2 });
    await settled();
    assert.equal(done, false);
    t.socket().say(history([1, 2]));
    await settled();
    assert.equal(done, true);
    assert.deepEqual(events, [["history", { epoch: "e", offset: 2, messages: [message(1), message(2)] }]]);
    t.socket().say(message(3));
    t.socket().drop();
    const s = await reconnect(t);
    assert.deepEqual({ ...s.last("join"), id: 0 }, { type: "join", room: "r", username: "kim", epoch: "e", offset: 3, id: 0 });
    t.client.close();
  });

  test("before the connection: sent once it is there", async () => {
    const t = await start();
    const room = t.client.join("r");
    const s = t.socket().accept();
    assert.equal(s.of("join").length, 1);
    s.say(history([]));
    await room.joined;
    t.client.close();
  });

  test("the same name is the same room, until it is left", async () => {
    const t = await inRoom();
    assert.equal(t.client.join("r"), t.room);
    assert.equal(t.socket().of("join").length, 1);
    t.room.leave();
    assert.notEqual(t.client.join("r"), t.room);
    t.client.close();
  });

  test("a refusal rejects joined and all that waits, and is an error event", async () => {
    const t = await online();
    const room = t.client.join("r");
    const sent = room.send("x");
    t.socket().say({ type: "error", id: t.socket().last("join").id, code: "forbidden", message: "no" });
    await assert.rejects(room.joined, { code: "forbidden", message: "no" });
    await assert.rejects(sent, { code: "forbidden" });
    await assert.rejects(room.send("y"), { code: "not_member" });
    assert.deepEqual(t.events.at(-1), ["error", { code: "forbidden", message: "no", room: "r" }]);
    t.socket().drop();
    assert.equal((await reconnect(t)).of("join").length, 0);
    t.client.close();
  });

  test("a refusal on the way back ends the room, too", async () => {
    const t = await inRoom(1);
    t.socket().drop();
    const sent = t.room.send("x");
    const s = await reconnect(t);
    s.say({ type: "error", id: s.last("join").id, code: "forbidden", message: "no more" });
    await assert.rejects(sent, { code: "forbidden" });
    assert.equal(t.events.at(-1)[1].room, "r");
    t.client.close();
  });

  for (const code of ["unavailable", "rate_limited", "closing"]) {
    test(`${code} is tried again`, async () => {
      const t = await online();
      const room = t.client.join("r");
      const s = t.socket();
      s.say({ type: "error", id: s.last("join").id, code, message: "later" });
      await tick(99);
      assert.equal(s.of("join").length, 1);
      await tick(4000);
      assert.equal(s.of("join").length, 2);
      s.say(history([1]));
      await room.joined;
      await tick(60_000);
      assert.equal(s.of("join").length, 2);
      t.client.close();
    });
  }
});

describe("leaving", () => {
  test("is told to the server, and no event comes any more", async () => {
    const t = await inRoom(1);
    t.room.leave();
    assert.equal(t.socket().last("leave").room, "r");
    t.socket().say(message(2), history([5], { epoch: "f" }), { type: "system", room: "r", content: "x" });
    assert.deepEqual(names(t.roomEvents), ["history"]);
    await assert.rejects(t.room.send("x"), { code: "not_member" });
    t.room.signal("x");
    assert.equal(t.socket().of("signal").length, 0);
    t.room.leave();
    assert.equal(t.socket().of("leave").length, 1);
    t.socket().drop();
    assert.equal((await reconnect(t)).of("join").length, 0);
    t.client.close();
  });

  test("rejects what was not sent, keeps what was", async () => {
    const t = await inRoom(1);
    const sent = t.room.send("sent");
    t.room.leave();
    t.socket().say({ type: "ack", id: t.socket().last("message").id, epoch: "e", offset: 2 });
    assert.equal((await sent).offset, 2);

    const offline = t.client.join("o");
    t.socket().drop();
    const waiting = offline.send("waiting");
    offline.leave();
    await assert.rejects(waiting, { code: "not_member" });
    await assert.rejects(offline.joined, { code: "not_member" });
    t.client.close();
  });

  test("what was sent and not answered when the connection dies is rejected", async () => {
    const t = await inRoom(1);
    const sent = t.room.send("sent");
    t.room.leave();
    t.socket().drop();
    await assert.rejects(sent, { code: "disconnected" });
    t.client.close();
  });

  test("join, leave, join: the last one wins, and an answer to the first is not taken for it", async () => {
    const t = await online();
    const s = t.socket();
    const first = t.client.join("r");
    const firstEvents = record(first, ROOM_EVENTS);
    first.leave();
    await assert.rejects(first.joined, { code: "not_member" });
    const second = t.client.join("r");
    const secondEvents = record(second, ROOM_EVENTS);
    assert.deepEqual(s.sent.map((m) => m.type), ["join", "leave"]);
    s.say(history([1, 2]), { type: "ack", id: s.sent[0].id }, message(3), { type: "ack", id: s.sent[1].id });
    await settled();
    assert.deepEqual(s.sent.map((m) => m.type), ["join", "leave", "join"]);
    assert.equal(s.sent[2].offset, undefined);
    s.say(history([1, 2, 3]));
    await second.joined;
    assert.deepEqual(firstEvents, []);
    assert.deepEqual(names(secondEvents), ["history"]);
    t.client.close();
  });

  test("join, leave, join over a reconnect", async () => {
    const t = await inRoom(1);
    t.room.leave();
    const again = t.client.join("r");
    t.socket().drop();
    const s = await reconnect(t);
    assert.deepEqual(s.sent.map((m) => m.type), ["join"]);
    s.say(history([1, 2]));
    await again.joined;
    t.client.close();
  });

  for (const code of ["rate_limited", "unavailable", "closing"]) {
    test(`${code}: told again, so that no ghost stays behind (F30)`, async () => {
      const t = await inRoom(1);
      const s = t.socket();
      t.room.leave();
      const again = t.client.join("r");
      s.say({ type: "error", id: s.last("leave").id, code, message: "later" });
      await tick(99);
      assert.equal(s.of("leave").length, 1);
      await tick(4000);
      assert.equal(s.of("leave").length, 2);
      assert.equal(s.of("join").length, 1, "not before the leave is over");
      s.say({ type: "ack", id: s.last("leave").id });
      await settled();
      assert.equal(s.of("join").length, 2);
      s.say(history([1]));
      await again.joined;
      t.client.close();
    });
  }

  test("refused for good, or without an answer: over all the same", async () => {
    for (const answer of [(s, id) => s.say({ type: "error", id, code: "not_member", message: "no" }), () => tick(125_000)]) {
      const t = await inRoom(1);
      const s = t.socket();
      t.room.leave();
      await answer(s, s.last("leave").id);
      await settled();
      t.client.join("r").joined.catch(() => {});
      if (s.of("leave").length > 1) s.say({ type: "ack", id: s.last("leave").id }); // after a timeout it was told again
      await settled();
      assert.equal(s.last("join").type, "join");
      assert.equal(t.events.filter(([e]) => e === "error").length, 0);
      t.client.close();
    }
  });

  test("while the join waits to be tried again: the server is told, too", async () => {
    const t = await online();
    const s = t.socket();
    const room = t.client.join("r");
    s.say({ type: "error", id: s.last("join").id, code: "unavailable", message: "later" });
    await settled();
    room.leave();
    await tick(10_000);
    assert.deepEqual(s.sent.map((m) => m.type), ["join", "leave"]);
    t.client.close();
  });

  test("inside a listener ends the event at once", async () => {
    const t = await inRoom(1);
    const seen = [];
    t.room.on("message", (m) => {
      seen.push(m.offset);
      if (m.offset === 3) t.room.leave();
    });
    t.room.on("message", (m) => seen.push(-m.offset));
    t.socket().drop();
    (await reconnect(t)).say(history([2, 3, 4], { recovered: true }));
    assert.deepEqual(seen, [2, -2, 3]);
    t.client.close();
  });
});

describe("positions of the application", () => {
  const at = (offset, epoch = "e") => ({ epoch, offset });

  test("room.position is that of the last message passed on", async () => {
    const t = await online();
    const room = t.client.join("r");
    assert.equal(room.position, undefined);
    t.socket().say(history([1, 2]));
    assert.deepEqual(room.position, at(2));
    const first = room.position;
    t.socket().say(message(3), message(5));
    assert.deepEqual(room.position, at(3));
    assert.deepEqual(first, at(2), "a position that was read does not change");
    t.socket().say(history([4, 5], { recovered: true }));
    assert.deepEqual(room.position, at(5));
    room.leave();
    assert.deepEqual(room.position, at(5));
    t.client.close();
  });

  test("since: exactly what was missed, and recovered; no history", async () => {
    const t = await online();
    const room = t.client.join("r", { since: at(7) });
    const events = record(room, ROOM_EVENTS);
    assert.deepEqual({ ...t.socket().last("join"), id: 0 }, { type: "join", room: "r", ...at(7), id: 0 });
    assert.deepEqual(room.position, at(7));
    t.socket().say(history([8, 9], { recovered: true }));
    assert.equal(await room.joined, room);
    assert.deepEqual(names(events), ["message", "message", "recovered"]);
    assert.deepEqual(events[2][1], { ...at(9), missed: 2 });
    t.client.close();
  });

  test("since: a gap where it can't be had", async () => {
    for (const code of ["gone", "reset", "ahead"]) {
      const t = await online();
      const room = t.client.join("r", { since: at(7) });
      const events = record(room, ROOM_EVENTS);
      const h = history([1, 2], { recovered: false, code, epoch: code === "reset" ? "f" : "e" });
      t.socket().say(h);
      assert.deepEqual(events, [
        ["gap", { ...at(7), code }],
        ["history", { epoch: h.epoch, offset: 2, messages: h.messages }],
      ]);
      t.client.close();
    }
  });

  test("since: what is no position is none", async () => {
    for (const since of [undefined, null, {}, { epoch: "e" }, { offset: 3 }, at(-1), at(1.5), at("3"), at(null), at(3, "")]) {
      const t = await online();
      const room = t.client.join("r", { since });
      assert.deepEqual({ ...t.socket().last("join"), id: 0 }, { type: "join", room: "r", id: 0 });
      assert.equal(room.position, undefined);
      t.client.close();
    }
  });
});

describe("many rooms", () => {
  test("all of them come back, each once and from its position", async () => {
    const t = await online({ queue: 300 });
    const rooms = range(1, 300).map((i) => t.client.join(`room ${i}`));
    const sends = rooms.map((room) => room.send("waits"));
    for (const p of sends) p.catch(() => {});
    const answer = (s) => {
      for (const { room, offset, id } of s.of("join")) {
        s.say(history(offset ? [] : [1, 2], { room, offset: 2, ...(offset && { recovered: true }) }), { type: "ack", id });
      }
    };
    answer(t.socket());
    await Promise.all(rooms.map((r) => r.joined));
    t.socket().drop();
    const s = await reconnect(t);
    assert.deepEqual(s.of("join").map((m) => m.room), rooms.map((r) => r.name));
    assert.ok(s.of("join").every((m) => m.offset === 2));
    answer(s);
    await settled();
    let done = 0;
    for (const p of sends) p.then(() => done++);
    for (let i = 0; done < 300; i++) {
      const { id } = s.of("message")[i];
      s.say({ type: "ack", id, epoch: "e", offset: 3 });
      await settled();
    }
    assert.equal(s.of("message").length, 300);
    assert.equal(new Set(s.of("message").map((m) => m.room)).size, 300);
    t.client.close();
  });
});

describe("signals and presence", () => {
  test("signals come from and go to rooms and users; nothing is kept for later", async () => {
    const t = await inRoom(0);
    t.room.signal("typing", true);
    t.client.signal("u2", "wave");
    assert.deepEqual(t.socket().of("signal"), [
      { type: "signal", room: "r", name: "typing", data: true },
      { type: "signal", targetId: "u2", name: "wave" },
    ]);
    const toRoom = { type: "signal", room: "r", senderId: "u2", username: "kim", name: "typing", data: false };
    const toUser = { type: "signal", senderId: "u2", name: "wave", data: null };
    t.socket().say(toRoom, toUser, { ...toRoom, room: "unknown" });
    assert.deepEqual(t.roomEvents.at(-1), ["signal", toRoom]);
    assert.deepEqual(t.events.at(-1), ["signal", toUser]);
    t.socket().drop();
    t.room.signal("typing", true);
    t.client.signal("u2", "wave");
    assert.equal((await reconnect(t)).of("signal").length, 0);
    t.client.close();
  });

  test("members follow snapshots and changes", async () => {
    const t = await inRoom(0);
    const { room } = t;
    const who = () => [...room.members.values()].map((m) => `${m.userId}:${m.username}`).sort().join(" ");
    const [a, b, c] = ["a", "b", "c"].map((id) => ({ userId: id, username: id.toUpperCase() }));
    const say = (m) => t.socket().say({ type: "presence", room: "r", ...m });
    say({ members: [a, b], count: 2 });
    assert.equal(who(), "a:A b:B");
    say({ joined: [c], left: [a], count: 2 });
    assert.equal(who(), "b:B c:C");
    say({ joined: [{ userId: "b", username: "Bea" }], left: [b], count: 2 });
    assert.equal(who(), "b:Bea c:C", "a new name is a leave and a join in one message");
    say({ count: 5000 });
    assert.equal(room.count, 5000);
    say({ members: [{ ...a, unknown: 1 }], count: 1 });
    assert.equal(who(), "a:A");
    assert.deepEqual(room.members.get("a"), a);
    assert.deepEqual(t.roomEvents.at(-1), ["presence", { type: "presence", room: "r", members: [a], count: 1 }]);
    t.client.close();
  });

  test("members that were read do not change: a change can be told from none", async () => {
    const t = await inRoom(0);
    const { room } = t;
    const a = { userId: "a", username: "A" };
    const before = room.members;
    t.socket().say({ type: "presence", room: "r", joined: [a], count: 1 });
    assert.equal(before.size, 0);
    assert.notEqual(room.members, before);
    const after = room.members;
    t.socket().say({ type: "system", room: "r", content: "x" });
    assert.equal(room.members, after);
    t.client.close();
  });

  test("system messages are passed on", async () => {
    const t = await inRoom(0);
    t.socket().say({ type: "system", room: "r", content: "kim joined" });
    assert.deepEqual(t.roomEvents.at(-1), ["system", { type: "system", room: "r", content: "kim joined" }]);
    t.client.close();
  });
});
