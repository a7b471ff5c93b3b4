// The messages of a room: each once and in order, or a gap (F25, F26).
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { ROOM_EVENTS, fakeTime, history, inRoom, message, names, offsets, online, reconnect, record } from "./harness.js";

fakeTime({ beforeEach, afterEach });

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
    const why = (code, offsets, more) => history(offsets, { recovered: false, code, ...more });
    for (const h of [
      why("gone", [7, 8]), why("ahead", [1]), why("reset", [1], { epoch: "f" }), why(undefined, [], { epoch: "f", offset: 0 }),
    ]) {
      const t = await inRoom(2);
      t.socket().drop();
      const s = await reconnect(t);
      s.say(h);
      assert.deepEqual(t.roomEvents.slice(1), [
        ["gap", { epoch: "e", offset: 2, code: h.code }],
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

  test("an entry that lies after the end of the history is not in it", async () => {
    const t = await inRoom(2);
    t.socket().drop();
    (await reconnect(t)).say(history([3, 4, 9], { recovered: true, offset: 4 }), message(5));
    assert.deepEqual(offsets(t.roomEvents), [3, 4, 5]);
    assert.deepEqual(t.room.position, { epoch: "e", offset: 5 });
    t.client.close();
  });

  test("a listener that ends the client during a recovery hears no more", async () => {
    const t = await inRoom(1);
    t.socket().drop();
    const s = await reconnect(t);
    t.room.on("message", () => t.client.close());
    s.say(history([2, 3], { recovered: true }));
    assert.deepEqual(names(t.roomEvents), ["history", "message"]);
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

  test("a log reset while connected, with the same epoch (P4.10)", async () => {
    const t = await inRoom(2);
    t.socket().say(history([8, 9], { recovered: false, code: "gone" }), message(10));
    assert.deepEqual(t.roomEvents[1], ["gap", { epoch: "e", offset: 2, code: "gone" }]);
    assert.deepEqual(names(t.roomEvents), ["history", "gap", "history", "message"]);
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
