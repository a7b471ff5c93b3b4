// Requests: sent once, answered once, and what happens when the connection dies between the two.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, mock, test } from "node:test";
import { clock, fakeTime, history, inRoom, message, names, online, range, reconnect, settled, start, tick } from "./harness.js";

fakeTime({ beforeEach, afterEach });

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
    t.socket().say({ type: "error", id: t.socket().last("message").id, code: "forbidden", message: "read only" });
    await assert.rejects(sent, { code: "forbidden", message: "read only", name: "ParleyError" });
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
    t.client.join("r"); // joins take no place in the queue, and neither does what is on its way
    const full = range(1, 3).map((i) => t.client.join("other").send(i));
    for (const p of full) await assert.rejects(p, { code: "queue_full" });
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

  for (const code of ["unavailable", "rate_limited"]) {
    test(`${code}: tried again with the same id; what follows waits, and stays in order`, async () => {
      const t = await inRoom(0);
      const s = t.socket();
      const sent = ["a", "b", "c"].map((c) => t.room.send(c));
      const ids = s.of("message").map((m) => m.id);
      s.say({ type: "error", id: ids[1], code, message: "later" }, { type: "error", id: ids[2], code, message: "later" });
      sent.push(t.room.send("d"));
      await tick(99);
      assert.equal(s.of("message").length, 3);
      await tick(4000);
      assert.deepEqual(s.of("message").map((m) => m.content), ["a", "b", "c", "b", "c", "d"]);
      assert.deepEqual(s.of("message").slice(3, 5).map((m) => m.id), ids.slice(1));
      s.say(...[...ids, s.last("message").id].map((id, i) => ({ type: "ack", id, epoch: "e", offset: i + 1 })));
      assert.deepEqual((await Promise.all(sent)).map((a) => a.offset), [1, 2, 3, 4]);
      assert.equal(t.events.filter(([e]) => e === "error").length, 0);
      t.client.close();
    });
  }

  test("a store that fails for one room holds that one up, a rate limit holds up all", async () => {
    for (const [code, others] of [["unavailable", 2], ["rate_limited", 0]]) {
      const t = await inRoom(0);
      const other = t.client.join("o");
      const s = t.socket();
      s.say(history([], { room: "o" }));
      for (const p of [t.room.send("x"), other.joined]) p.catch(() => {});
      s.say({ type: "error", id: s.last("message").id, code, message: "later" });
      const before = s.sent.length;
      for (const p of [t.room.send("y"), other.send("z"), t.client.call("c")]) p.catch(() => {});
      assert.equal(s.sent.length - before, others, code);
      await tick(4100);
      assert.deepEqual(s.sent.slice(before).map((m) => m.content ?? m.method).sort(), ["c", "x", "y", "z"]);
      t.client.close();
    }
  });

  test("many refusals are one pause, not the shortest of many", async () => {
    const t = await inRoom(0);
    for (let i = 0; i < 20; i++) t.room.send(i).catch(() => {});
    const draws = [0.9];
    mock.method(Math, "random", () => draws.shift() ?? 0);
    try {
      const s = t.socket();
      for (const { id } of s.of("message")) s.say({ type: "error", id, code: "rate_limited", message: "slow down" });
      await tick(3500);
      assert.equal(s.of("message").length, 20);
      await tick(200);
      assert.equal(s.of("message").length, 40);
    } finally {
      Math.random.mock.restore();
    }
    t.client.close();
  });

  test("what is held up goes with the next connection, if this one dies", async () => {
    const t = await inRoom(0);
    const sent = t.room.send("x");
    const { id } = t.socket().last("message");
    t.socket().say({ type: "error", id, code: "rate_limited", message: "later" });
    t.socket().drop();
    const s = await reconnect(t);
    s.say(history([], { recovered: true }));
    assert.equal(s.last("message").id, id);
    s.say({ type: "ack", id, epoch: "e", offset: 1 });
    await sent;
    t.client.close();
  });

  test("refused for now after the room was left: rejected, because nobody will send it again", async () => {
    const t = await inRoom(0);
    const sent = t.room.send("x");
    t.room.leave();
    t.socket().say({ type: "error", id: t.socket().last("message").id, code: "unavailable", message: "later" });
    await assert.rejects(sent, { code: "unavailable" });
    t.client.close();
  });

  test("at most 50 are on the way; the others follow in order, one for each answer", async () => {
    const t = await inRoom(0, { queue: 1000 });
    const sent = range(1, 120).map((i) => t.room.send(i));
    const s = t.socket();
    const numbers = (socket) => socket.of("message").map((m) => m.content);
    assert.deepEqual(numbers(s), range(1, 50));
    s.say(...s.of("message").slice(0, 30).map((m, i) => ({ type: "ack", id: m.id, epoch: "e", offset: i + 1 })));
    assert.deepEqual(numbers(s), range(1, 80));
    s.drop();
    const again = await reconnect(t);
    again.say(history([], { recovered: true }), { type: "ack", id: again.last("join").id });
    assert.deepEqual(numbers(again), range(31, 80));
    for (let i = 0; i < 90; i++) again.say({ type: "ack", id: again.of("message")[i].id, epoch: "e", offset: 31 + i });
    assert.deepEqual((await Promise.all(sent)).map((a) => a.offset), range(1, 120));
    t.client.close();
  });

  test("acks that get lost: the answer is the same, and it is there once (F35)", async () => {
    const t = await inRoom(0);
    const sent = t.room.send("x");
    const first = t.socket().last("message");
    for (let i = 0; i < 5; i++) {
      t.socket().drop();
      const s = await reconnect(t);
      s.say(history([1], i ? { recovered: true, messages: [] } : { recovered: true }));
      assert.deepEqual(s.of("message"), [first]);
    }
    t.socket().say({ type: "ack", id: first.id, epoch: "e", offset: 1, duplicate: true }, { type: "ack", id: first.id, epoch: "e", offset: 2 });
    assert.deepEqual(await sent, { epoch: "e", offset: 1, duplicate: true });
    assert.deepEqual(t.roomEvents.filter(([e]) => e === "message").length, 1);
    t.client.close();
  });

  test("slept longer than the server knows ids: not sent again, because it could appear twice (F41)", async () => {
    const t = await inRoom(0);
    const sent = t.room.send("x");
    const calm = t.client.join("other");
    const unsent = calm.send("never sent, and so no doubt");
    clock.wall += 3_600_000; // the machine sleeps, and neither timers nor the monotonic clock go on
    t.socket().drop();
    const s = await reconnect(t);
    s.say(history([], { recovered: true }), history([], { room: "other" }));
    assert.deepEqual(s.of("message").map((m) => m.room), ["other"]);
    await assert.rejects(sent, { code: "timeout" });
    unsent.catch(() => {});
    t.client.close();
  });

  test("that time counts from the first sending, however often it was repeated (F41)", async () => {
    const t = await inRoom(0);
    const sent = assert.rejects(t.room.send("x"), { code: "timeout" });
    for (const times of [1, 0]) {
      clock.wall += 70_000;
      t.socket().drop();
      const s = await reconnect(t);
      s.say(history([], { recovered: true }));
      assert.equal(s.of("message").length, times);
    }
    await sent;
    t.client.close();
  });

  test("a wall clock that jumps back rejects nothing and repeats nothing (F40)", async () => {
    const t = await inRoom(0);
    const sent = t.room.send("x");
    clock.wall -= 3_600_000;
    t.socket().drop();
    const s = await reconnect(t);
    s.say(history([], { recovered: true }));
    assert.equal(s.of("message").length, 1);
    await Promise.all([assert.rejects(sent, { code: "timeout" }), tick(120_000)]);
    assert.equal(s.of("message").length, 1);
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
    assert.deepEqual({ ...t.socket().last("history"), id: 0 }, { type: "history", room: "r", id: 0 });
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

  test("late ones are nobody's: their request was told of the timeout", async () => {
    const t = await online();
    const called = t.client.call("slow");
    await Promise.all([assert.rejects(called, { code: "timeout" }), tick(120_000)]);
    const n = t.events.length;
    t.socket().say({ type: "error", id: t.socket().last("call").id, code: "internal", message: "it was logged" });
    assert.equal(t.events.length, n);
    t.client.close();
  });
});
