import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { ROOM_EVENTS, fakeTime, history, message, online, range, reconnect, record, settled, start, tick } from "./harness.js";

fakeTime({ beforeEach, afterEach });

/** A client in room "r" at position e/`top`. */
async function inRoom(top = 0, options, connected) {
  const t = await online(options, connected);
  const room = t.client.join("r", { username: "me" });
  const roomEvents = record(room, ROOM_EVENTS);
  t.socket().say(history(range(1, top)));
  await room.joined;
  return { ...t, room, roomEvents };
}

const offsets = (events) => events.filter(([e]) => e === "message").map(([, m]) => m.offset);
const names = (events) => events.map(([e]) => e);

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

describe("order and recovery", () => {
  test("live messages come once and in order; duplicates are dropped", async () => {
    const t = await inRoom(2);
    t.socket().say(message(3), message(3), message(2), message(4), message(1), message(5));
    assert.deepEqual(offsets(t.roomEvents), [3, 4, 5]);
    assert.equal(t.socket().of("join").length, 1);
    t.client.close();
  });

  test("recovered: what was missed comes as messages, then recovered", async () => {
    const t = await inRoom(2);
    t.socket().drop();
    (await reconnect(t)).say(history([3, 4], { recovered: true }), message(4), message(5));
    assert.deepEqual(names(t.roomEvents), ["history", "message", "message", "recovered", "message"]);
    assert.deepEqual(offsets(t.roomEvents), [3, 4, 5]);
    assert.deepEqual(t.roomEvents[3][1], { epoch: "e", offset: 4, missed: 2 });
    t.client.close();
  });

  test("nothing missed: recovered, without messages", async () => {
    const t = await inRoom(2);
    t.socket().drop();
    (await reconnect(t)).say(history([], { recovered: true, offset: 2 }));
    assert.deepEqual(t.roomEvents.at(-1), ["recovered", { epoch: "e", offset: 2, missed: 0 }]);
    t.client.close();
  });

  test("a second reconnect starts after the replayed messages", async () => {
    const t = await inRoom(1);
    t.socket().drop();
    let s = await reconnect(t);
    s.say(history([2, 3], { recovered: true }));
    s.drop();
    s = await reconnect(t);
    assert.equal(s.last("join").offset, 3);
    t.client.close();
  });

  test("recovered:false is a gap and a new history", async () => {
    for (const h of [history([7, 8], { recovered: false }), history([1], { recovered: false, epoch: "f" }), history([], { recovered: false, epoch: "f", offset: 0 })]) {
      const t = await inRoom(2);
      t.socket().drop();
      const s = await reconnect(t);
      s.say(h);
      assert.deepEqual(t.roomEvents.slice(1), [
        ["gap", { epoch: "e", offset: 2 }],
        ["history", { epoch: h.epoch, offset: h.offset, messages: h.messages }],
      ]);
      s.say(message(h.offset + 1, { epoch: h.epoch }));
      assert.equal(offsets(t.roomEvents).at(-1), h.offset + 1);
      t.client.close();
    }
  });

  test("recovered:false is believed even where nothing seems to be missing", async () => {
    const t = await inRoom(2);
    t.socket().drop();
    (await reconnect(t)).say(history([1, 2, 3], { recovered: false }));
    assert.deepEqual(names(t.roomEvents), ["history", "gap", "history"]);
    t.client.close();
  });

  test("a replay with doubles brings each once", async () => {
    const t = await inRoom(2);
    t.socket().drop();
    (await reconnect(t)).say(history([1, 2, 3, 3, 4, 4], { recovered: true }));
    assert.deepEqual(offsets(t.roomEvents), [3, 4]);
    t.client.close();
  });

  test("a recovery that leaves a hole is not taken for one", async () => {
    for (const h of [history([4, 5], { recovered: true }), history([3, 5], { recovered: true }), history([3], { recovered: true, offset: 9 }), history([3], { recovered: true, epoch: "f" }), history([3, 3], { recovered: true, offset: 4 })]) {
      const t = await inRoom(2);
      t.socket().drop();
      (await reconnect(t)).say(h);
      assert.deepEqual(names(t.roomEvents), ["history", "gap", "history"], JSON.stringify(h));
      t.client.close();
    }
  });

  test("a recovery never moves back", async () => {
    const t = await inRoom(5);
    t.socket().drop();
    const s = await reconnect(t);
    s.say(history([], { recovered: true, offset: 4 }), message(5), message(6));
    assert.deepEqual(names(t.roomEvents), ["history", "recovered", "message"]);
    assert.deepEqual(offsets(t.roomEvents), [6]);
    t.client.close();
  });

  test("a hole asks once for what is missing, and the answer fills it", async () => {
    const t = await inRoom(2);
    const s = t.socket();
    s.say(message(4), message(5));
    assert.deepEqual(offsets(t.roomEvents), []);
    assert.equal(s.of("join").length, 2);
    assert.deepEqual([s.last("join").epoch, s.last("join").offset], ["e", 2]);
    s.say(history([3, 4, 5], { recovered: true }), { type: "ack", id: s.last("join").id }, message(6));
    assert.deepEqual(offsets(t.roomEvents), [3, 4, 5, 6]);
    assert.ok(!names(t.roomEvents).includes("gap"));
    s.say(message(9));
    assert.equal(s.of("join").length, 3);
    t.client.close();
  });

  test("a message of another epoch asks, too", async () => {
    for (const offset of [1, 2, 3, 9]) {
      const t = await inRoom(2);
      t.socket().say(message(offset, { epoch: "f" }));
      assert.equal(t.socket().of("join").length, 2);
      t.client.close();
    }
    const t = await inRoom(2);
    t.socket().say(message(3, { epoch: "f" }));
    assert.deepEqual(offsets(t.roomEvents), []);
    t.socket().say(history([1, 2, 3], { epoch: "f", recovered: false }));
    assert.deepEqual(names(t.roomEvents), ["history", "gap", "history"]);
    t.client.close();
  });

  test("the log lost while connected (P4.10)", async () => {
    const t = await inRoom(2);
    t.socket().say(history([1], { epoch: "f", recovered: false }), message(2, { epoch: "f" }));
    assert.deepEqual(names(t.roomEvents), ["history", "gap", "history", "message"]);
    assert.equal(t.socket().of("join").length, 1);
    t.client.close();
  });

  test("an old connection's messages are not heard", async () => {
    const t = await inRoom(2);
    const old = t.socket();
    old.drop();
    (await reconnect(t)).say(history([], { recovered: true, offset: 2 }));
    old.say(message(3), history([1], { epoch: "f" }));
    old.drop(4100);
    assert.equal(t.client.state, "connected");
    assert.deepEqual(offsets(t.roomEvents), []);
    t.client.close();
  });

  test("a room without a log: every message, and a gap after each reconnect", async () => {
    const t = await online();
    const room = t.client.join("r");
    const events = record(room, ROOM_EVENTS);
    const bare = { type: "history", room: "r", messages: [] };
    const plain = { type: "message", room: "r", userId: "u", username: "n", content: 1, timestamp: 1 };
    t.socket().say(bare, plain, plain);
    t.socket().drop();
    (await reconnect(t)).say(bare);
    assert.deepEqual(names(events), ["history", "message", "message", "gap", "history"]);
    t.client.close();
  });

  test("another room's messages are another's", async () => {
    const t = await inRoom(1);
    t.socket().say(message(9, { room: "x" }), history([9], { room: "x" }));
    assert.deepEqual(names(t.roomEvents), ["history"]);
    t.client.close();
  });
});

describe("sending", () => {
  test("resolves with the position; other keys of the ack stay away", async () => {
    const t = await inRoom(0);
    const sent = t.room.send({ hello: 1 });
    const m = t.socket().last("message");
    assert.deepEqual(m, { type: "message", room: "r", content: { hello: 1 }, id: m.id });
    t.socket().say({ type: "ack", id: m.id, epoch: "e", offset: 1, extra: 1 });
    assert.deepEqual(await sent, { epoch: "e", offset: 1 });
    t.client.close();
  });

  test("ids differ, and hold nothing that a server refuses", async () => {
    const t = await inRoom(0);
    const u = await inRoom(0);
    for (const each of [t, u]) for (let i = 0; i < 100; i++) each.room.send(i).catch(() => {});
    const ids = [...t.socket().sent, ...u.socket().sent].map((m) => m.id);
    assert.equal(new Set(ids).size, ids.length);
    for (const id of ids) assert.match(id, /^[\w-]{16,64}$/);
    t.client.close();
    u.client.close();
  });

  test("an error rejects with its code", async () => {
    const t = await inRoom(0);
    const sent = t.room.send("x");
    t.socket().say({ type: "error", id: t.socket().last("message").id, code: "rate_limited", message: "slow down" });
    await assert.rejects(sent, { code: "rate_limited", message: "slow down", name: "ParleyError" });
    assert.equal(t.events.filter(([e]) => e === "error").length, 0);
    t.client.close();
  });

  test("what can't be encoded is rejected", async () => {
    const t = await inRoom(0);
    await assert.rejects(t.room.send(1n), TypeError);
    const circle = {};
    circle.circle = circle;
    await assert.rejects(t.client.private("u", circle), TypeError);
    assert.equal(t.socket().of("message").length, 0);
    t.client.close();
  });

  test("waits for the room, in order, and is sent again with the same id after the rejoin", async () => {
    const t = await online();
    const room = t.client.join("r");
    const sent = ["a", "b", "c"].map((c) => room.send(c));
    assert.equal(t.socket().of("message").length, 0);
    t.socket().say(history([]));
    const first = t.socket().of("message");
    assert.deepEqual(first.map((m) => m.content), ["a", "b", "c"]);
    t.socket().say({ type: "ack", id: first[0].id, epoch: "e", offset: 1 });
    t.socket().drop();
    sent.push(room.send("d"));
    const s = await reconnect(t);
    assert.equal(s.of("message").length, 0, "not before the rejoin");
    s.say(history([1, 2], { recovered: true }));
    const second = s.of("message");
    assert.deepEqual(second.map((m) => m.content), ["b", "c", "d"]);
    assert.deepEqual(second.slice(0, 2).map((m) => m.id), first.slice(1).map((m) => m.id));
    s.say(...second.map((m, i) => ({ type: "ack", id: m.id, epoch: "e", offset: 2 + i, duplicate: i === 0 })));
    assert.deepEqual((await Promise.all(sent)).map((a) => a.offset), [1, 2, 3, 4]);
    assert.equal((await sent[1]).duplicate, true);
    t.client.close();
  });

  test("what the server has is not sent again when a hole is filled", async () => {
    const t = await inRoom(1);
    t.room.send("x").catch(() => {});
    t.socket().say(message(3), history([2, 3], { recovered: true }));
    assert.equal(t.socket().of("message").length, 1);
    t.client.close();
  });

  test("private and broadcast wait for the connection only", async () => {
    const t = await start();
    const sent = [t.client.private("u2", "hi"), t.client.broadcast("all")];
    t.client.join("r");
    let s = t.socket().accept();
    const ids = ["private", "broadcast"].map((type) => s.last(type).id);
    assert.deepEqual(s.last("private"), { type: "private", targetId: "u2", message: "hi", id: ids[0] });
    assert.deepEqual(s.last("broadcast"), { type: "broadcast", message: "all", id: ids[1] });
    s.drop();
    s = await reconnect(t);
    assert.deepEqual(["private", "broadcast"].map((type) => s.last(type).id), ids);
    s.say(...ids.map((id) => ({ type: "ack", id })));
    assert.deepEqual(await Promise.all(sent), [{}, {}]);
    t.client.close();
  });

  test("the queue is bounded while there is no connection, and only then", async () => {
    const t = await start({ queue: 3 });
    const all = range(1, 5).map((i) => t.client.broadcast(i));
    await assert.rejects(all[3], { code: "queue_full" });
    await assert.rejects(all[4], { code: "queue_full" });
    const s = t.socket().accept();
    assert.deepEqual(s.of("broadcast").map((m) => m.message), [1, 2, 3]);
    const more = range(6, 20).map((i) => t.client.broadcast(i));
    assert.equal(s.of("broadcast").length, 18);
    s.say(...s.of("broadcast").map((m) => ({ type: "ack", id: m.id })));
    await Promise.all([...all.slice(0, 3), ...more]);
    t.client.close();
  });

  test("the queue holds 100 unless told otherwise", async () => {
    const t = await start();
    const all = range(1, 101).map((i) => t.client.broadcast(i));
    await assert.rejects(all[100], { code: "queue_full" });
    for (const p of all) p.catch(() => {});
    t.client.close();
  });

  test("no answer for two minutes is a timeout, over reconnects; the answer is not missed by a bit", async () => {
    const t = await inRoom(0);
    const late = t.room.send("late");
    const late2 = t.client.broadcast("late too");
    late.catch(() => {});
    late2.catch(() => {});
    t.socket().drop();
    const s = await reconnect(t);
    s.say(history([], { recovered: true }));
    const used = 600;
    await tick(119_999 - used);
    let state = "pending";
    late.catch((e) => (state = e.code));
    await settled();
    assert.equal(state, "pending");
    await tick(used);
    await assert.rejects(late, { code: "timeout" });
    await assert.rejects(late2, { code: "timeout" });
    s.say({ type: "ack", id: s.last("message").id, epoch: "e", offset: 1 }); // too late, and no harm
    s.drop();
    const again = await reconnect(t);
    again.say(history([], { recovered: true }));
    assert.equal(again.of("message").length, 0);
    t.client.close();
  });

  test("a timeout of Infinity is none", async () => {
    const t = await online({ timeout: Infinity });
    const p = t.client.broadcast(1);
    let failed = false;
    p.catch(() => (failed = true));
    await tick(10_000_000);
    assert.equal(failed, false);
    t.client.close();
  });

  test("closing: waits for the next connection", async () => {
    const t = await inRoom(0);
    const sent = t.room.send("x");
    const { id } = t.socket().last("message");
    t.socket().say({ type: "error", id, code: "closing", message: "shutting down" });
    t.socket().drop(4000);
    const s = await reconnect(t);
    s.say(history([], { recovered: true }));
    assert.equal(s.last("message").id, id);
    s.say({ type: "ack", id, epoch: "e", offset: 1 });
    assert.equal((await sent).offset, 1);
    t.client.close();
  });

  test("unavailable: tried again with the same id", async () => {
    const t = await inRoom(0);
    const sent = t.room.send("x");
    const s = t.socket();
    const { id } = s.last("message");
    s.say({ type: "error", id, code: "unavailable", message: "store down" });
    await tick(99);
    assert.equal(s.of("message").length, 1);
    await tick(4000);
    assert.deepEqual(s.of("message").map((m) => m.id), [id, id]);
    s.say({ type: "ack", id, epoch: "e", offset: 1 });
    assert.equal((await sent).offset, 1);
    t.client.close();
  });

  test("over the size limit: refused here, because the server would close the connection for good", async () => {
    const t = await inRoom(0, {}, { maxMessageSize: 200 });
    await assert.rejects(t.room.send("x".repeat(200)), { code: "too_large" });
    await assert.rejects(t.room.send("€".repeat(60)), { code: "too_large" });
    t.client.signal("u", "n", "x".repeat(200));
    assert.equal(t.events.at(-1)[1].code, "too_large");
    assert.equal(t.socket().of("message").length + t.socket().of("signal").length, 0);
    t.room.send("x".repeat(80)).catch(() => {});
    assert.equal(t.socket().of("message").length, 1);

    t.socket().drop();
    const waited = t.room.send("y".repeat(200));
    const s = await reconnect(t, { maxMessageSize: 150 });
    s.say(history([], { recovered: true }));
    await assert.rejects(waited, { code: "too_large" });
    assert.equal(s.of("message").length, 1);
    t.client.close();
  });
});

describe("calls, history pages and pings", () => {
  test("a call resolves with the data", async () => {
    const t = await online();
    const called = t.client.call("sum", [1, 2]);
    const m = t.socket().last("call");
    assert.deepEqual(m, { type: "call", method: "sum", data: [1, 2], id: m.id });
    t.socket().say({ type: "reply", id: m.id, data: 3 });
    assert.equal(await called, 3);
    t.client.close();
  });

  test("a call waits for a connection, and is not repeated when it dies", async () => {
    const t = await start();
    const called = t.client.call("pay");
    let s = t.socket().accept();
    assert.equal(s.of("call").length, 1);
    s.drop();
    await assert.rejects(called, { code: "disconnected" });
    s = await reconnect(t);
    assert.equal(s.of("call").length, 0);
    t.client.close();
  });

  test("a call that the server refuses is rejected, whatever the reason", async () => {
    const t = await online();
    for (const code of ["closing", "unavailable", "unknown_method", "mine"]) {
      const called = t.client.call("pay");
      t.socket().say({ type: "error", id: t.socket().last("call").id, code, message: "no" });
      await assert.rejects(called, { code });
    }
    await tick(60_000);
    assert.equal(t.socket().of("call").length, 4);
    t.client.close();
  });

  test("an answer of the wrong kind is none", async () => {
    const t = await online();
    const called = t.client.call("x");
    const { id } = t.socket().last("call");
    t.socket().say({ type: "ack", id }, { type: "pong", id, timestamp: 1 }, { type: "history", id, room: "r", messages: [] });
    t.socket().say({ type: "reply", id, data: null });
    assert.equal(await called, null);
    t.client.close();
  });

  test("a page of history has its answer, and does not touch the room", async () => {
    const t = await inRoom(9);
    const page = t.room.history({ before: 5, limit: 2 });
    const m = t.socket().last("history");
    assert.deepEqual(m, { type: "history", room: "r", before: 5, limit: 2, id: m.id });
    t.socket().say(history([3, 4], { id: m.id, more: true, offset: 9 }), message(10));
    assert.deepEqual(await page, { room: "r", epoch: "e", offset: 9, more: true, messages: [message(3), message(4)] });
    assert.deepEqual(names(t.roomEvents), ["history", "message"]);
    const newest = t.room.history();
    assert.deepEqual({ ...t.socket().last("history"), id: 0 }, { type: "history", room: "r", before: 0, id: 0 });
    newest.catch(() => {});
    t.client.close();
  });

  test("ping tells the round trip and the server's time", async () => {
    const t = await online();
    const p = t.client.ping();
    t.socket().say({ type: "pong", id: t.socket().last("ping").id, timestamp: 42 });
    const { rtt, timestamp } = await p;
    assert.equal(timestamp, 42);
    assert.ok(rtt >= 0 && rtt < 10_000);
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

  test("system messages are passed on", async () => {
    const t = await inRoom(0);
    t.socket().say({ type: "system", room: "r", content: "kim joined" });
    assert.deepEqual(t.roomEvents.at(-1), ["system", { type: "system", room: "r", content: "kim joined" }]);
    t.client.close();
  });
});

describe("inbox", () => {
  const note = (offset, more) => ({ type: "notification", data: `n${offset}`, timestamp: 1, epoch: "i", offset, ...more });
  const dm = (offset) => ({ type: "private", senderId: "u2", message: `p${offset}`, timestamp: 1, epoch: "i", offset });
  const inbox = (...messages) => ({ type: "inbox", epoch: "i", offset: messages.at(-1)?.offset ?? 0, messages });
  const told = (t) => t.events.filter(([e]) => !["state", "connected"].includes(e)).map(([e, p]) => (p.offset === undefined ? e : `${e} ${p.offset}`));

  test("first as a list, then live, then what was missed, each once", async () => {
    const t = await online();
    t.socket().say(inbox(note(1), dm(2)), note(3), note(3), dm(4));
    assert.deepEqual(told(t), ["inbox 2", "notification 3", "private 4"]);
    t.socket().drop();
    (await reconnect(t)).say(inbox(...[1, 3].map((o) => note(o)), dm(2), dm(4), note(5), dm(6)), note(7));
    assert.deepEqual(told(t).slice(3), ["notification 5", "private 6", "notification 7"]);
    assert.deepEqual(t.client.notifications.map((n) => n.data), ["n1", "n3", "n5", "n7"]);
    t.client.close();
  });

  test("unread counts notifications until markRead", async () => {
    const t = await online();
    t.socket().say(inbox(note(1), dm(2)), note(3));
    assert.equal(t.client.unread, 2);
    t.client.markRead();
    assert.equal(t.client.unread, 0);
    t.socket().say(note(4));
    assert.equal(t.client.unread, 1);
    assert.equal(t.client.notifications.length, 3);
    t.client.close();
  });

  test("the newest 100 notifications are held", async () => {
    const t = await online();
    t.socket().say(...range(1, 150).map((o) => note(o)));
    assert.equal(t.client.notifications.length, 100);
    assert.equal(t.client.notifications[0].data, "n51");
    assert.equal(t.client.unread, 150);
    t.client.close();
  });

  test("more missed than kept: gap, then the list; nothing is counted twice", async () => {
    const t = await online();
    t.socket().say(inbox(note(1)), note(2));
    t.socket().drop();
    (await reconnect(t)).say({ ...inbox(note(2), note(200), note(201)), offset: 201 });
    assert.deepEqual(told(t), ["inbox 1", "notification 2", "gap 2", "inbox 201"]);
    assert.deepEqual(t.events.find(([e]) => e === "gap")[1], { topic: "inbox", epoch: "i", offset: 2 });
    assert.equal(t.client.unread, 4);
    t.client.close();
  });

  test("a new epoch is a gap", async () => {
    const t = await online();
    t.socket().say(inbox(note(1)));
    t.socket().drop();
    (await reconnect(t)).say({ type: "inbox", epoch: "j", offset: 1, messages: [note(1, { epoch: "j" })] });
    assert.deepEqual(told(t), ["inbox 1", "gap 1", "inbox 1"]);
    t.client.close();
  });

  test("a hole while connected is told, not hidden", async () => {
    const t = await online();
    t.socket().say(inbox(note(1)), note(5), note(6));
    assert.deepEqual(told(t), ["inbox 1", "gap 1", "notification 5", "notification 6"]);
    t.client.close();
  });

  test("messages without a position are delivered and move nothing", async () => {
    const t = await online();
    t.socket().say(inbox(note(1)), { type: "private", senderId: "", message: "direct" }, note(2));
    assert.deepEqual(told(t), ["inbox 1", "private", "notification 2"]);
    t.client.close();
  });

  test("an anonymous user is somebody else after a reconnect", async () => {
    const t = await online({}, { clientId: "c1", userId: "c1" });
    t.socket().say(note(1), note(2));
    t.socket().drop();
    (await reconnect(t, { clientId: "c2", userId: "c2" })).say(note(1));
    assert.deepEqual(told(t), ["notification 1", "notification 2", "notification 1"]);
    t.client.close();
  });
});

describe("broadcast", () => {
  const cast = (offset) => ({ type: "broadcast", senderId: "", message: offset, epoch: "b", offset });
  const gaps = (t) => t.events.filter(([e]) => e === "gap").map(([, p]) => p);

  test("is passed on; a reconnect tells what was missed if there is a log", async () => {
    const at = (offset, epoch = "b") => ({ epoch, offset });
    const t = await online({}, at(3));
    t.socket().say(cast(4), { type: "broadcast", senderId: "u2", message: "bare" });
    assert.deepEqual(t.events.slice(-2).map(([, p]) => p.message), [4, "bare"]);
    t.socket().drop();
    await reconnect(t, at(4));
    assert.deepEqual(gaps(t), []);
    const own = t.client.broadcast("mine");
    t.socket().say(cast(6), { type: "ack", id: t.socket().last("broadcast").id, ...at(5) });
    await own;
    t.socket().drop();
    await reconnect(t, at(6));
    assert.deepEqual(gaps(t), []);
    const last = t.client.broadcast("mine, too");
    t.socket().say({ type: "ack", id: t.socket().last("broadcast").id, ...at(7) });
    await last;
    t.socket().drop();
    await reconnect(t, at(7));
    assert.deepEqual(gaps(t), []);
    t.socket().drop();
    await reconnect(t, at(9));
    assert.deepEqual(gaps(t), [{ topic: "broadcast", epoch: "b", offset: 7 }]);
    t.socket().drop();
    await reconnect(t, at(9, "c"));
    assert.equal(gaps(t).length, 2);
    t.client.close();
  });
});

describe("errors of the server", () => {
  test("without a request they are events", async () => {
    const t = await online();
    t.socket().say({ type: "error", code: "bad_request", message: "what" }, { type: "error", id: "unknown", message: "plain" });
    assert.deepEqual(t.events.slice(-2), [
      ["error", { code: "bad_request", message: "what", room: undefined }],
      ["error", { code: "unknown", message: "plain", room: undefined }],
    ]);
    t.client.close();
  });
});
