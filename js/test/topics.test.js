// The inbox and the broadcast: live, over reconnects, and with holes.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { fakeTime, message, online, range, reconnect } from "./harness.js";

fakeTime({ beforeEach, afterEach });

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
