// Requests: sent once, answered once, and what happens when the connection dies between the two.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { fakeTime, history, inRoom, message, names, online, range, reconnect, settled, start, tick } from "./harness.js";

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
