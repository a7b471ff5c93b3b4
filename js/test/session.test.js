// Coming back as the same client: what is offered, and what the server makes of it (P1.8 to P1.10, F68).
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { fakeTime, history, inRoom, message, nextAttempt, online, reconnect, settled, start, tick } from "./harness.js";
import { openInbox } from "../inbox.js";

fakeTime({ beforeEach, afterEach });

const b64 = (s) => Buffer.from(s).toString("base64url");
const errors = (t) => t.events.filter(([e]) => e === "error");
const connects = (t) => t.events.filter(([e]) => e === "connected").map(([, p]) => p);

describe("session", () => {
  test("the newest one is offered, and only that", async () => {
    const t = await online({ token: "t" }, { session: "s-1" });
    assert.deepEqual(t.sockets[0].protocols, ["parley.v1", "parley.token.dA"]);
    for (const n of [2, 3, 4]) {
      t.socket().drop();
      const s = await reconnect(t, { session: `s-${n}`, resumed: true });
      assert.deepEqual(s.protocols, ["parley.v1", "parley.token.dA", `parley.session.s-${n - 1}`]);
    }
    t.socket().drop();
    (await nextAttempt(t)).drop(); // it fails before "connected"
    assert.equal((await nextAttempt(t)).protocols.at(-1), "parley.session.s-4", "still the newest that was read");
    t.client.close();
  });

  test("none is offered where none was given", async () => {
    const t = await online({}, { session: "s" });
    t.socket().drop();
    await reconnect(t, {}); // a server without sessions
    t.socket().drop();
    assert.deepEqual((await reconnect(t)).protocols, ["parley.v1"]);
    t.client.close();
  });

  test("what can't be a subprotocol is not offered: the browser would refuse to connect", async () => {
    for (const session of ["", "a b", "a,b", "ü", "a\u0000", 7, null]) {
      const t = await online({}, { session: "fine" });
      t.socket().drop();
      await reconnect(t, { session });
      t.socket().drop();
      if (typeof session !== "string") t.client.close(); // malformed: it never was connected
      else assert.deepEqual((await reconnect(t)).protocols, ["parley.v1"]);
      t.client.close();
    }
  });

  test("connected tells whether the client id was kept", async () => {
    const t = await online({}, { session: "s-1" });
    t.socket().drop();
    await reconnect(t, { session: "s-2", resumed: true });
    t.socket().drop();
    (await reconnect(t, { clientId: "c2", session: "s-3", resumed: false })).say({
      type: "error", code: "bad_session", message: "the session was not accepted: go on as a new client",
    });
    assert.deepEqual(connects(t).map((c) => [c.clientId, c.resumed]), [["c1", undefined], ["c1", true], ["c2", false]]);
    assert.deepEqual(errors(t), [], "nothing that the page did has failed");
    t.client.close();
  });

  test("rooms and sends don't depend on it", async () => {
    for (const resumed of [true, false]) {
      const t = await inRoom(2, {}, { session: "s-1" });
      const sent = t.room.send("x");
      const { id } = t.socket().last("message");
      t.socket().drop();
      const s = await reconnect(t, { clientId: resumed ? "c1" : "c2", session: "s-2", resumed });
      assert.deepEqual([s.last("join").epoch, s.last("join").offset], ["e", 2]);
      s.say(history([3], { recovered: true }));
      assert.equal(s.last("message").id, id);
      s.say({ type: "ack", id, epoch: "e", offset: 3, duplicate: true });
      await sent;
      t.client.close();
    }
  });

  test("4103, taken over by a newer connection, is the end; of an old socket it is nothing", async () => {
    const t = await online({}, { session: "s-1" });
    t.socket().drop();
    await reconnect(t, { session: "s-2", resumed: true });
    t.sockets[0].drop(4103);
    assert.equal(t.client.state, "connected");
    t.sockets[1].drop(4103, "replaced");
    assert.equal(t.client.state, "closed");
    assert.equal(t.client.closeCode, 4103);
    await tick(3_600_000);
    assert.equal(t.sockets.length, 2);
  });

  test("is not thrown away by how a connection is given up: 1000 and none at all would end it on the server (P1.9)", async () => {
    const closed = [];
    const t = await online({}, { session: "s", pingInterval: 5000 });
    await tick(10_000); // no sign of life
    closed.push(t.sockets[0].closedWith);
    await nextAttempt(t);
    await tick(20_000); // no connection in time
    closed.push(t.sockets[1].closedWith);
    await reconnect(t, { session: "s" });
    t.socket().say({ type: "inbox", epoch: "i", offset: 1, messages: [] }, { type: "notification", data: 1, epoch: "i", offset: 9 });
    closed.push(t.socket().closedWith); // a hole
    assert.deepEqual(closed, [4000, 4000, 4000]);
    await reconnect(t, { userId: "u9", session: "s" });
    await settled(); // somebody else's inbox
    assert.equal(t.sockets.at(-2).closedWith, 4000);
    t.client.close();
  });

  test("stays in this tab and in memory (F68)", async () => {
    const touched = [];
    const trap = (name) => new Proxy({}, { get: (_, key) => touched.push(`${name}.${String(key)}`), set: (_, key) => touched.push(`${name}.${String(key)}`) });
    for (const name of ["localStorage", "sessionStorage", "indexedDB", "document"]) {
      const value = name === "document" ? Object.defineProperty({ baseURI: "http://page.test/", visibilityState: "visible" }, "cookie", { get: () => touched.push("cookie"), set: () => touched.push("cookie") }) : trap(name);
      Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    }
    try {
      const tabs = [await online({}, { clientId: "c1", session: "s-a" }), await online({}, { clientId: "c2", session: "s-b" })];
      for (const t of tabs) t.socket().drop();
      const offered = [];
      for (const t of tabs) offered.push((await reconnect(t)).protocols.at(-1));
      assert.deepEqual(offered, ["parley.session.s-a", "parley.session.s-b"]);
      assert.ok(!JSON.stringify(tabs.map((t) => [t.client, t.events])).includes("s-a"), "a page can't read it");
      for (const t of tabs) t.client.close();
      assert.deepEqual(touched, []);
    } finally {
      for (const name of ["localStorage", "sessionStorage", "indexedDB", "document"]) delete globalThis[name];
    }
  });

  test("a later client of the page starts anew", async () => {
    const t = await online({}, { session: "s-1" });
    t.client.close();
    const u = await start();
    assert.deepEqual(u.socket().protocols, ["parley.v1"]);
    u.client.close();
  });
});

describe("positions (P1.10)", () => {
  const note = (offset, epoch = "i") => ({ type: "notification", data: offset, timestamp: 1, epoch, offset });
  const cast = (offset, epoch = "b") => ({ type: "broadcast", senderId: "", message: offset, epoch, offset });

  test("those of the inbox and of the broadcast are offered, as they are", async () => {
    const t = await online({}, { epoch: "é/+ ", offset: 2 ** 53 - 2 });
    assert.deepEqual(t.socket().protocols, ["parley.v1"]);
    t.socket().say({ type: "inbox", epoch: "i", offset: 0, messages: [] });
    t.socket().drop();
    let s = await reconnect(t, { epoch: "é/+ ", offset: 2 ** 53 - 2 });
    assert.deepEqual(s.protocols, ["parley.v1", `parley.inbox.0.${b64("i")}`, `parley.broadcast.9007199254740990.${b64("é/+ ")}`]);
    s.say(note(1), cast(2 ** 53 - 1, "é/+ "));
    s.drop();
    s = await reconnect(t);
    assert.deepEqual(s.protocols, ["parley.v1", `parley.inbox.1.${b64("i")}`, `parley.broadcast.9007199254740991.${b64("é/+ ")}`]);
    t.client.close();
  });

  test("they move with what was processed, not with what was announced", async () => {
    const t = await online({}, { epoch: "b", offset: 5 });
    t.socket().say({ type: "inbox", epoch: "i", offset: 3, messages: [] }, note(4), cast(6));
    t.socket().drop();
    const s = await reconnect(t, { epoch: "b", offset: 9 });
    s.drop(); // after "connected" and before the history
    assert.equal((await reconnect(t)).protocols.at(-1), `parley.broadcast.6.${b64("b")}`);
    t.client.close();
  });

  test("topics without history have none", async () => {
    const t = await online();
    t.socket().say({ type: "inbox", messages: [] }, { type: "broadcast", senderId: "", message: 1 }, { type: "notification", data: 1 });
    t.socket().drop();
    assert.deepEqual((await reconnect(t)).protocols, ["parley.v1"]);
    t.client.close();
  });
});

describe("another user", () => {
  const inbox = (epoch, ...offsets) => ({
    type: "inbox", epoch, offset: offsets.at(-1) ?? 0, unread: offsets.length, version: 7,
    messages: offsets.map((offset) => ({ type: "notification", data: offset, timestamp: 1, epoch, offset })),
  });

  test("has another inbox: it is asked for from its beginning, and the old one is gone from the page", async () => {
    const t = await online({}, { userId: "kim", session: "s-1" });
    const box = openInbox(t.client);
    t.socket().say({ type: "error", id: t.socket().last("history").id, code: "unavailable", message: "later" });
    t.socket().say(inbox("i", 1, 2));
    assert.equal(t.client.unread, 2);
    t.socket().drop();
    const s = await reconnect(t, { userId: "lee", clientId: "c2", session: "s-2", resumed: false });
    s.say({ ...inbox("i", 3), recovered: true }); // what came for lee after a position of kim: not all there is
    await settled();
    assert.equal(t.sockets.length, 3, "a connection that offers no position");
    assert.deepEqual(t.socket().protocols, ["parley.v1", "parley.session.s-2"]);
    assert.equal(t.client.unread, 0);
    assert.deepEqual(box.items, []);
    t.socket().accept({ userId: "lee", clientId: "c2", session: "s-3", resumed: true }).say(inbox("i", 1, 2, 3));
    assert.deepEqual(box.items.map((n) => n.data), [3, 2, 1]);
    assert.equal(t.client.unread, 3);
    assert.equal(t.events.filter(([e]) => e === "gap").length, 0);
    assert.deepEqual(connects(t).map((c) => c.userId), ["kim", "lee"]);
    assert.deepEqual(t.states(), ["connected", "waiting", "connecting", "connected"]);
    t.client.close();
  });

  test("keeps the rooms and the broadcast, which are the same for all", async () => {
    const t = await inRoom(2, {}, { clientId: "c1", userId: "c1", epoch: "b", offset: 5 });
    t.socket().drop();
    const s = await reconnect(t, { clientId: "c2", userId: "c2", epoch: "b", offset: 5 });
    assert.equal(t.sockets.length, 2);
    assert.equal(s.protocols.at(-1), `parley.broadcast.5.${b64("b")}`);
    assert.equal(s.last("join").offset, 2);
    s.say(history([3], { recovered: true }), message(4));
    assert.deepEqual(t.roomEvents.map(([e]) => e), ["history", "message", "recovered", "message"]);
    t.client.close();
  });
});

describe("another user after a reconnect (P4.13)", () => {
  test("what was sent and not answered is rejected, what was not is sent", async () => {
    const t = await inRoom(0, {}, { clientId: "c1", userId: "c1" });
    const asked = [t.room.send("sent"), t.client.private("u2", "sent, too"), t.client.broadcast("and this")];
    t.socket().drop();
    const waiting = [t.room.send("later"), t.client.private("u2", "later, too"), t.client.call("what")];
    const s = await reconnect(t, { clientId: "c2", userId: "c2" });
    for (const p of asked) await assert.rejects(p, { code: "disconnected" });
    assert.deepEqual(s.sent.map((m) => m.type), ["join", "private", "call"]);
    s.say(history([], { recovered: true }));
    assert.deepEqual(s.of("message").map((m) => m.content), ["later"]);
    s.say(...s.sent.filter((m) => m.type !== "call").map((m) => ({ type: "ack", id: m.id })), { type: "reply", id: s.last("call").id, data: 1 });
    assert.deepEqual(await Promise.all(waiting), [{}, {}, 1]);
    t.client.close();
  });

  test("also what the server had refused for a while: it may be stored", async () => {
    const t = await inRoom(0);
    const sent = t.room.send("x");
    t.socket().say({ type: "error", id: t.socket().last("message").id, code: "unavailable", message: "later" });
    t.socket().drop();
    await reconnect(t, { userId: "u9" });
    await assert.rejects(sent, { code: "disconnected" });
    t.client.close();
  });

  test("the same user with another client id is the same user", async () => {
    const t = await inRoom(0, {}, { clientId: "c1", userId: "kim" });
    const sent = t.client.private("u2", "x");
    const { id } = t.socket().last("private");
    t.socket().drop();
    const s = await reconnect(t, { clientId: "c2", userId: "kim", resumed: false });
    assert.equal(s.last("private").id, id);
    s.say({ type: "ack", id, duplicate: true });
    assert.deepEqual(await sent, { duplicate: true });
    t.client.close();
  });
});
