// Memberships that the application ends (P5.5) and begins (P5.6).
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { ROOM_EVENTS, fakeTime, history, inRoom, message, names, offsets, online, reconnect, record, settled, tick } from "./harness.js";

fakeTime({ beforeEach, afterEach });

const left = (reason = "", room = "r") => ({ type: "left", room, reason });

describe("left", () => {
  test("is told with the reason, and is the last event of the room", async () => {
    const t = await inRoom(1);
    t.socket().say(left("this is for members"), message(2), history([1, 2, 3], { id: "x" }), left("again"), left("no", "unknown"));
    assert.deepEqual(t.roomEvents.slice(1), [["left", left("this is for members")]]);
    assert.equal(t.socket().of("leave").length, 0, "the server knows");
    await assert.rejects(t.room.send("x"), { code: "not_member" });
    t.room.signal("x");
    t.room.leave();
    assert.deepEqual(t.socket().sent.map((m) => m.type), ["join"]);
    assert.deepEqual(t.room.position, { epoch: "e", offset: 1 });
    t.client.close();
  });

  test("is not joined again, not even after a reconnect; a later join is a new one", async () => {
    const t = await inRoom(1);
    t.socket().say(left());
    t.socket().drop();
    const s = await reconnect(t);
    await tick(60_000);
    assert.equal(s.of("join").length, 0);
    const room = t.client.join("r");
    assert.notEqual(room, t.room);
    const events = record(room, ROOM_EVENTS);
    assert.equal(s.last("join").offset, undefined);
    s.say(history([1, 2]), message(3));
    await room.joined;
    assert.deepEqual(names(events), ["history", "message"]);
    assert.deepEqual(names(t.roomEvents), ["history", "left"]);
    s.say(left("again"));
    assert.deepEqual(events.at(-1), ["left", left("again")]);
    t.client.close();
  });

  test("in the listener: a join is a new one, and takes what was missed", async () => {
    const t = await inRoom(1);
    let room;
    t.room.on("left", () => (room = t.client.join("r", { since: t.room.position })));
    t.socket().say(left());
    assert.notEqual(room, t.room);
    const events = record(room, ROOM_EVENTS);
    assert.equal(t.socket().last("join").offset, 1);
    t.socket().say(history([2, 3], { recovered: true }));
    await room.joined;
    assert.deepEqual(names(events), ["message", "message", "recovered"]);
    t.client.close();
  });

  test("what was sent is answered, what was not is rejected", async () => {
    const t = await inRoom(1);
    const s = t.socket();
    const sent = t.room.send("sent");
    s.say({ type: "error", id: s.last("message").id, code: "unavailable", message: "later" }); // holds what follows
    const waiting = t.room.send("waiting");
    for (const p of [sent, waiting]) p.catch(() => {});
    s.say(left());
    await assert.rejects(waiting, { code: "not_member" });
    await assert.rejects(sent, { code: "not_member" }, "it would have been sent again");
    t.client.close();

    const u = await inRoom(1);
    const other = u.room.send("sent");
    u.socket().say(left(), { type: "ack", id: u.socket().last("message").id, epoch: "e", offset: 2 });
    assert.equal((await other).offset, 2);
    u.client.close();
  });

  test("a join that was on its way is taken back: the server may have got it afterwards (F30)", async () => {
    const t = await inRoom(1);
    const s = t.socket();
    s.say(message(3)); // 2 is missing
    const join = s.last("join");
    assert.equal(join.offset, 1);
    s.say(left("no"));
    assert.deepEqual(s.sent.map((m) => m.type), ["join", "join", "leave"]);
    const again = t.client.join("r");
    const events = record(again, ROOM_EVENTS);
    s.say(history([2, 3], { recovered: true }), { type: "ack", id: join.id });
    await settled();
    assert.deepEqual(names(t.events), ["state", "connected"], "no room that the application has joined");
    assert.equal(s.of("join").length, 2, "not before the leave is answered");
    s.say({ type: "ack", id: s.last("leave").id });
    await settled();
    assert.equal(s.of("join").length, 3);
    s.say(history([1, 2, 3]));
    await again.joined;
    assert.deepEqual(names(events), ["history"]);
    assert.deepEqual(names(t.roomEvents), ["history", "left"]);
    t.client.close();
  });

  test("before the first history: joined rejects", async () => {
    const t = await online();
    const room = t.client.join("r");
    t.socket().say(left("no"), { type: "ack", id: t.socket().last("join").id });
    await assert.rejects(room.joined, { code: "not_member" });
    t.socket().say({ type: "error", id: t.socket().last("leave").id, code: "not_member", message: "no" });
    await settled();
    assert.equal(t.events.filter(([e]) => e === "error").length, 0);
    t.client.close();
  });
});

describe("a room that the application has joined", () => {
  /** A client that the application has made a member of "r", at position e/2. */
  async function given(listen = () => {}) {
    const t = await online();
    t.client.on("joined", listen);
    t.socket().say(history([1, 2]));
    const joined = t.events.filter(([e]) => e === "joined").map(([, room]) => room);
    assert.equal(joined.length, 1);
    return { ...t, room: joined[0] };
  }

  test("is told with its Room, whose history follows, and lives like any other", async () => {
    let events;
    const t = await given((room) => (events = record(room, ROOM_EVENTS)));
    const s = t.socket();
    assert.equal(t.room.name, "r");
    assert.equal(await t.room.joined, t.room);
    s.say(message(3), { type: "presence", room: "r", members: [{ userId: "a", username: "A" }], count: 1 });
    assert.deepEqual(names(events), ["history", "message", "presence"]);
    assert.equal(t.room.count, 1);
    const sent = t.room.send("x");
    s.say({ type: "ack", id: s.last("message").id, epoch: "e", offset: 4 }, message(4));
    assert.equal((await sent).offset, 4);
    assert.deepEqual(s.sent.map((m) => m.type), ["message"], "there was nothing to ask for");
    assert.deepEqual(t.room.position, { epoch: "e", offset: 4 });
    assert.equal(t.events.filter(([e]) => e === "joined").length, 1);
    t.client.close();
  });

  test("is joined again after a reconnect, from its position, though nobody listens", async () => {
    const t = await given();
    t.socket().say(message(3));
    t.socket().drop();
    const s = await reconnect(t);
    assert.deepEqual({ ...s.last("join"), id: 0 }, { type: "join", room: "r", epoch: "e", offset: 3, id: 0 });
    const events = record(t.room, ROOM_EVENTS);
    s.say(history([4], { recovered: true }));
    assert.deepEqual(names(events), ["message", "recovered"]);
    assert.equal(t.events.filter(([e]) => e === "joined").length, 1);
    s.say(left("no"));
    assert.deepEqual(events.at(-1), ["left", left("no")]);
    s.say(history([1, 2, 3, 4]));
    assert.equal(t.events.filter(([e]) => e === "joined").length, 2, "a new one");
    t.client.close();
  });

  test("may be refused then", async () => {
    const t = await given();
    t.socket().drop();
    const s = await reconnect(t);
    s.say({ type: "error", id: s.last("join").id, code: "forbidden", message: "no" });
    await settled();
    assert.deepEqual(t.events.at(-1), ["error", { code: "forbidden", message: "no", room: "r" }]);
    await assert.rejects(t.room.send("x"), { code: "not_member" });
    t.client.close();
  });

  test("is left by room.leave(), also in the listener", async () => {
    let events;
    const t = await given((room) => {
      events = record(room, ROOM_EVENTS);
      room.leave();
    });
    assert.deepEqual(events, []);
    assert.deepEqual(t.socket().sent.map((m) => m.type), ["leave"]);
    t.room.signal("x");
    t.socket().say(history([1, 2, 3])); // of before the leave
    t.socket().say({ type: "ack", id: t.socket().last("leave").id });
    await settled();
    t.socket().drop();
    assert.equal((await reconnect(t)).of("join").length, 0);
    assert.equal(t.events.filter(([e]) => e === "joined").length, 1);
    t.client.close();
  });

  test("client.join gives the same Room, and the history is told, whatever comes meanwhile", async () => {
    const t = await given();
    const s = t.socket();
    const room = t.client.join("r", { username: "kim" });
    assert.equal(room, t.room);
    const events = record(room, ROOM_EVENTS);
    assert.deepEqual({ ...s.last("join"), id: 0 }, { type: "join", room: "r", username: "kim", id: 0 });
    s.say(message(3), history([1, 2, 3]), message(4));
    assert.deepEqual(names(events), ["history", "message"]);
    assert.deepEqual(offsets(events), [4]);
    assert.deepEqual(events[0][1].messages.length, 3);
    assert.equal(t.client.join("r"), room);
    assert.equal(s.of("join").length, 1, "once");
    t.client.close();
  });

  test("client.join with a position: what was missed since", async () => {
    const t = await given();
    const events = record(t.client.join("r", { since: { epoch: "e", offset: 1 } }), ROOM_EVENTS);
    assert.equal(t.socket().last("join").offset, 1);
    t.socket().say(history([2], { recovered: true }));
    assert.deepEqual(names(events), ["message", "recovered"]);
    t.client.close();
  });

  test("client.join while there is no connection", async () => {
    const t = await given();
    t.socket().drop();
    const room = t.client.join("r");
    const events = record(room, ROOM_EVENTS);
    const s = await reconnect(t);
    assert.equal(s.of("join").length, 1);
    assert.equal(s.last("join").offset, undefined);
    s.say(history([1, 2, 3]));
    assert.deepEqual(names(events), ["history"]);
    t.client.close();
  });

  test("client.join while it is coming back: the answer to that is not taken for the one to this", async () => {
    const t = await given();
    t.socket().drop();
    const s = await reconnect(t);
    const rejoin = s.last("join");
    const room = t.client.join("r");
    const events = record(room, ROOM_EVENTS);
    assert.deepEqual(s.sent.map((m) => m.type), ["join", "leave"]);
    s.say(history([3], { recovered: true }), { type: "ack", id: rejoin.id }, { type: "ack", id: s.last("leave").id });
    await settled();
    assert.equal(s.last("join").offset, undefined);
    s.say(history([1, 2, 3]));
    await room.joined;
    assert.deepEqual(names(events), ["history"]);
    assert.equal(events[0][1].messages.length, 3);
    t.client.close();
  });
});
