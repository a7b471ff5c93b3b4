// The inbox and the broadcast: live, over reconnects, and with holes.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { fakeTime, message, nextAttempt, online, range, reconnect, tick } from "./harness.js";

fakeTime({ beforeEach, afterEach });

const b64 = (s) => Buffer.from(s).toString("base64url");
/** Events, but for those that every connection has, as "name offset". */
const told = (t) =>
  t.events.filter(([e]) => !["state", "connected"].includes(e)).map(([e, p]) => (p.offset === undefined ? e : `${e} ${p.offset}`));
const of = (t, event) => t.events.filter(([e]) => e === event).map(([, p]) => p);

describe("inbox", () => {
  const note = (offset, more) => ({ type: "notification", data: `n${offset}`, timestamp: 1, epoch: "i", offset, ...more });
  const dm = (offset) => ({ type: "private", senderId: "u2", message: `p${offset}`, timestamp: 1, epoch: "i", offset });
  const inbox = (...messages) => ({ type: "inbox", epoch: "i", offset: messages.at(-1)?.offset ?? 0, messages });
  const recovered = (...messages) => ({ ...inbox(...messages), recovered: true });

  test("first as a list, then live, then what was missed, each once", async () => {
    const t = await online();
    t.socket().say(inbox(note(1), dm(2)), note(3), note(3), dm(4));
    assert.deepEqual(told(t), ["inbox 2", "notification 3", "private 4"]);
    t.socket().drop();
    (await reconnect(t)).say(recovered(note(5), dm(6)), dm(6), note(7));
    assert.deepEqual(told(t).slice(3), ["notification 5", "private 6", "recovered 6", "notification 7"]);
    assert.deepEqual(of(t, "recovered"), [{ topic: "inbox", epoch: "i", offset: 6, missed: 2 }]);
    t.client.close();
  });

  test("a whole list that holds what was missed does as well", async () => {
    const t = await online();
    t.socket().say(inbox(note(1)), note(2));
    t.socket().drop();
    (await reconnect(t)).say(inbox(...range(1, 4).map((o) => note(o))));
    assert.deepEqual(told(t), ["inbox 1", "notification 2", "notification 3", "notification 4", "recovered 4"]);
    t.client.close();
  });

  test("nothing missed: recovered, and that is all", async () => {
    const t = await online();
    t.socket().say(inbox(note(1)));
    t.socket().drop();
    (await reconnect(t)).say({ ...inbox(), offset: 1, recovered: true });
    assert.deepEqual(of(t, "recovered"), [{ topic: "inbox", epoch: "i", offset: 1, missed: 0 }]);
    t.client.close();
  });

  test("unread is the server's number, by its version within an epoch (P8.1), and every change is told", async () => {
    const t = await online();
    const counts = [];
    t.client.on("unread", ({ unread }) => counts.push(unread));
    const says = (...messages) => (t.socket().say(...messages), t.client.unread);
    assert.equal(says({ ...inbox(note(1)), unread: 5, version: 10 }), 5);
    assert.equal(says(note(2, { unread: 6, version: 11 })), 6);
    const marked = (unread, version, epoch = "i") => ({ type: "marked", as: "read", epoch, offsets: [[1, 1]], unread, version });
    assert.equal(says(marked(4, 13)), 4);
    assert.equal(says(marked(5, 12)), 4, "an older one that was slower");
    assert.equal(says(note(3, { unread: 5, version: 12 })), 4);
    assert.equal(says(marked(3, 13)), 3, "of equal ones the last: entries have expired");
    assert.equal(says(marked(9, 99, "h")), 3, "of another log");
    assert.equal(says(note(4)), 3);
    const ack = t.client.request({ type: "read", epoch: "i", offset: 3 });
    assert.equal(says({ type: "ack", id: t.socket().last("read").id, unread: 1, version: 14 }), 1);
    assert.deepEqual(await ack, { unread: 1, version: 14 });
    assert.deepEqual(counts, [5, 6, 4, 3, 1]);
    assert.equal(says({ ...inbox(note(1, { epoch: "j" })), epoch: "j", recovered: false, code: "reset", unread: 7, version: 2 }), 7, "another log counts anew");
    assert.equal(says({ ...inbox(), epoch: "j", offset: 0, recovered: false, code: "ahead", unread: 0, version: 1 }), 0, "the log went back");
    t.client.close();
  });

  test("more missed than kept: gap with its code, then the list", async () => {
    for (const [code, epoch] of [["gone", "i"], ["ahead", "i"], ["reset", "j"]]) {
      const t = await online();
      t.socket().say(inbox(note(1)), note(2));
      t.socket().drop();
      const offset = code === "ahead" ? 1 : 201;
      (await reconnect(t)).say({
        ...inbox(note(offset === 1 ? 1 : 2, { epoch }), ...(offset === 1 ? [] : [note(200, { epoch }), note(201, { epoch })])),
        epoch, offset, recovered: false, code,
      });
      assert.deepEqual(told(t), ["inbox 1", "notification 2", "gap 2", `inbox ${offset}`]);
      assert.deepEqual(of(t, "gap"), [{ topic: "inbox", epoch: "i", offset: 2, code }]);
      t.client.close();
    }
  });

  test("a recovery is not taken on trust: what leaves a hole is a gap", async () => {
    const t = await online();
    t.socket().say(inbox(note(1)));
    t.socket().drop();
    (await reconnect(t)).say(recovered(note(3)));
    assert.deepEqual(told(t), ["inbox 1", "gap 1", "inbox 3"]);
    t.client.close();
  });

  test("lost while connected: the new list takes its place (P4.10)", async () => {
    const t = await online();
    t.socket().say(inbox(note(1)), { type: "inbox", epoch: "j", offset: 0, recovered: false, code: "reset", messages: [] }, note(1, { epoch: "j" }));
    assert.deepEqual(told(t), ["inbox 1", "gap 1", "inbox 0", "notification 1"]);
    assert.equal(of(t, "gap")[0].code, "reset");
    t.client.close();
  });

  test("an inbox without a log: everything live, and a gap after each reconnect", async () => {
    const t = await online();
    const bare = { type: "notification", data: 1 };
    t.socket().say({ type: "inbox", messages: [] }, bare, bare);
    t.socket().drop();
    (await reconnect(t)).say({ type: "inbox", messages: [] });
    assert.deepEqual(told(t), ["inbox", "notification", "notification", "gap", "inbox"]);
    t.client.close();
  });

  test("one that could not be read at first is told of as soon as something of it is missing", async () => {
    const t = await online();
    t.socket().say(note(5)); // no list: the server said in an error that it could not be read
    t.socket().drop();
    (await reconnect(t)).say({ ...inbox(note(9)), recovered: false, code: "gone" });
    assert.deepEqual(told(t), ["notification 5", "gap 5", "inbox 9"]);
    t.client.close();
  });

  test("a hole while connected: a new connection brings what is missing, nothing is skipped", async () => {
    const t = await online();
    t.socket().say(inbox(note(1)), note(5), note(6));
    assert.deepEqual(told(t), ["inbox 1"]);
    assert.deepEqual([t.client.state, t.client.closeCode], ["waiting", 4004]);
    const s = await reconnect(t);
    assert.equal(s.protocols.at(-1), `parley.inbox.1.${b64("i")}`);
    s.say(recovered(...range(2, 6).map((o) => note(o))), note(7));
    assert.deepEqual(told(t), ["inbox 1", ...range(2, 6).map((o) => `notification ${o}`), "recovered 6", "notification 7"]);
    assert.equal(t.sockets.length, 2);
    t.client.close();
  });

  test("a message of another epoch is one, too", async () => {
    const t = await online();
    t.socket().say(inbox(note(1)), note(2, { epoch: "j" }));
    assert.equal(t.client.state, "waiting");
    (await reconnect(t)).say({ type: "inbox", epoch: "j", offset: 2, recovered: false, code: "reset", messages: [note(2, { epoch: "j" })] });
    assert.deepEqual(told(t), ["inbox 1", "gap 1", "inbox 2"]);
    t.client.close();
  });

  test("a hole that a new connection does not fill is told, and is no reason for another one", async () => {
    const t = await online();
    t.socket().say(inbox(note(1)), note(5));
    (await reconnect(t)).say({ ...inbox(), offset: 1, recovered: true }, note(5), note(6));
    assert.deepEqual(told(t), ["inbox 1", "recovered 1", "gap 1", "notification 5", "notification 6"]);
    await tick(60_000);
    assert.equal(t.sockets.length, 2);
    t.socket().say(note(9));
    assert.equal(t.client.state, "waiting", "another one is");
    t.client.close();
  });

  test("a server that makes nothing but holes gets no storm of connections", async () => {
    const t = await online();
    t.socket().say(inbox(note(1)));
    const until = performance.now() + 60_000;
    let offset = 1;
    while (performance.now() < until) {
      t.socket().say(note((offset += 2)));
      if (t.client.state === "waiting") (await reconnect(t)).say(recovered(note(offset - 1), note(offset)));
    }
    assert.ok(t.sockets.length < 25, `${t.sockets.length} connections in a minute`);
    t.client.close();
  });

  test("messages without a position are delivered and move nothing", async () => {
    const t = await online();
    t.socket().say(inbox(note(1)), { type: "private", senderId: "", message: "direct" }, note(2));
    assert.deepEqual(told(t), ["inbox 1", "private", "notification 2"]);
    t.client.close();
  });

  test("entries of rooms have no business here", async () => {
    const t = await online();
    t.socket().say({ ...inbox(note(1), message(2, { epoch: "i" })), offset: 2 });
    assert.deepEqual(of(t, "inbox")[0].messages, [note(1)]);
    t.client.close();
  });

  test("a listener that ends the client during a recovery hears no more", async () => {
    const t = await online();
    t.socket().say(inbox(note(1)));
    t.socket().drop();
    const s = await reconnect(t);
    t.client.on("notification", () => t.client.close());
    s.say(recovered(note(2), note(3)));
    assert.deepEqual(told(t), ["inbox 1", "notification 2"]);
    assert.equal(t.client.state, "closed");
  });
});

describe("broadcast", () => {
  const at = (offset, epoch = "b") => ({ epoch, offset });
  const cast = (offset, more) => ({ type: "broadcast", senderId: "", message: offset, ...at(offset), ...more });
  const history = (offsets, more) => ({ type: "history", ...at(offsets.at(-1)), recovered: true, messages: offsets.map((o) => cast(o)), ...more });
  const mine = { senderId: "u1", clientId: "c1" };

  test("is passed on, once and with what is known of the sender", async () => {
    const t = await online({}, at(3));
    const bare = { type: "broadcast", senderId: "u2", message: "bare" };
    t.socket().say(cast(4), cast(4), cast(2), bare, cast(5, { senderId: "u2", clientId: "c7" }));
    assert.deepEqual(of(t, "broadcast"), [cast(4), bare, cast(5, { senderId: "u2", clientId: "c7" })]);
    t.client.close();
  });

  test("what was missed comes after a reconnect, then recovered (P4.11)", async () => {
    const t = await online({}, at(3));
    t.socket().say(cast(4));
    t.socket().drop();
    const s = await reconnect(t, at(7));
    assert.equal(s.protocols.at(-1), `parley.broadcast.4.${b64("b")}`);
    s.say(history([5, 6, 7]), cast(8));
    assert.deepEqual(told(t), ["broadcast 4", "broadcast 5", "broadcast 6", "broadcast 7", "recovered 7", "broadcast 8"]);
    assert.deepEqual(of(t, "recovered"), [{ topic: "broadcast", ...at(7), missed: 3 }]);
    t.client.close();
  });

  test("what can't be had is a gap with its code, then what there is", async () => {
    for (const [code, h] of [
      ["gone", history([8, 9], { recovered: false, code: "gone" })],
      ["ahead", history([1, 2], { recovered: false, code: "ahead" })],
      ["reset", { ...history([], { recovered: false, code: "reset" }), ...at(1, "c"), messages: [cast(1, { epoch: "c" })] }],
      [undefined, history([6, 7])],
    ]) {
      const t = await online({}, at(4));
      t.socket().drop();
      const s = await reconnect(t, at(h.offset, h.epoch));
      s.say(h, cast(h.offset + 1, { epoch: h.epoch }));
      const fresh = code === "ahead" ? [] : h.messages;
      assert.deepEqual(told(t), ["gap 4", ...fresh.map((m) => `broadcast ${m.offset}`), `broadcast ${h.offset + 1}`]);
      assert.deepEqual(of(t, "gap"), [{ topic: "broadcast", ...at(4), code }]);
      assert.equal(t.sockets.length, 2);
      t.client.close();
    }
  });

  test("a server that can't say where it is says so later, by the history (P5.4)", async () => {
    const t = await online({}, at(4));
    t.socket().drop();
    const s = await reconnect(t);
    s.say({ type: "error", code: "unavailable", message: "later" });
    assert.deepEqual(told(t).filter((x) => !x.startsWith("error")), []);
    s.say(history([5, 6]), cast(7));
    assert.deepEqual(told(t).filter((x) => !x.startsWith("error")), ["broadcast 5", "broadcast 6", "recovered 6", "broadcast 7"]);
    t.client.close();
  });

  test("a server that keeps no log any more says so", async () => {
    const t = await online({}, at(4));
    t.socket().drop();
    (await reconnect(t)).say({ type: "history", messages: [], recovered: false, code: "reset" }, { type: "broadcast", senderId: "", message: 1 });
    assert.deepEqual(told(t), ["gap 4", "broadcast"]);
    t.client.close();
  });

  test("without a log there is nothing to tell", async () => {
    const t = await online();
    t.socket().say({ type: "broadcast", senderId: "", message: 1 });
    t.socket().drop();
    await reconnect(t);
    assert.deepEqual(told(t), ["broadcast"]);
    t.client.close();
  });

  test("own ones are not heard, neither live nor replayed nor under an earlier client id (P4.12)", async () => {
    const t = await online({}, { ...at(3), clientId: "c1" });
    t.socket().say(cast(4, mine), cast(5));
    t.socket().drop();
    (await reconnect(t, { ...at(8), clientId: "c2", resumed: false })).say(
      { ...history([]), ...at(8), messages: [cast(6, mine), cast(7), cast(8, { senderId: "u1", clientId: "c2" })] }, cast(9, { senderId: "u1", clientId: "c9" }),
    );
    assert.deepEqual(told(t), ["broadcast 5", "broadcast 7", "recovered 8", "broadcast 9"]);
    assert.equal(of(t, "recovered")[0].missed, 1);
    t.client.close();
  });

  test("the ack of an own one moves the position", async () => {
    const t = await online({}, at(3));
    const own = t.client.broadcast("mine");
    t.socket().say({ type: "ack", id: t.socket().last("broadcast").id, ...at(4) }, cast(5));
    assert.deepEqual(await own, at(4));
    t.socket().drop();
    assert.equal((await nextAttempt(t)).protocols.at(-1), `parley.broadcast.5.${b64("b")}`);
    assert.deepEqual(told(t), ["broadcast 5"]);
    t.client.close();
  });

  test("the ack of a resend that was stored in a lost log says nothing about the new one", async () => {
    const t = await online({}, at(3));
    const own = t.client.broadcast("mine");
    t.socket().drop();
    const s = await reconnect(t, at(1, "c"));
    s.say({ ...history([1], { recovered: false, code: "reset" }), ...at(1, "c"), messages: [cast(1, at(1, "c"))] });
    s.say({ type: "ack", id: s.last("broadcast").id, ...at(4), duplicate: true }, cast(2, at(2, "c")));
    assert.deepEqual(await own, { ...at(4), duplicate: true });
    assert.deepEqual(told(t), ["gap 3", "broadcast 1", "broadcast 2"]);
    assert.equal(t.client.state, "connected");
    t.client.close();
  });

  test("one that overtakes the ack of an own one before it waits for that", async () => {
    const t = await online({}, at(3));
    const s = t.socket();
    const own = [t.client.broadcast("a"), t.client.broadcast("b")];
    const [a, b] = s.of("broadcast").map((m) => m.id);
    s.say(cast(4), cast(6), cast(8));
    assert.deepEqual(told(t), ["broadcast 4"]);
    s.say({ type: "ack", id: a, ...at(5) });
    assert.deepEqual(told(t), ["broadcast 4", "broadcast 6"]);
    s.say({ type: "ack", id: b, ...at(7) }, cast(9));
    assert.deepEqual(told(t), ["broadcast 4", "broadcast 6", "broadcast 8", "broadcast 9"]);
    assert.deepEqual((await Promise.all(own)).map((m) => m.offset), [5, 7]);
    assert.equal(t.sockets.length, 1);
    t.client.close();
  });

  for (const [how, end] of [
    ["is refused", (s, id) => s.say({ type: "error", id, code: "forbidden", message: "no" })],
    ["is not answered", () => tick(120_000)],
    ["has another offset", (s, id) => s.say({ type: "ack", id, ...at(9) })],
  ]) {
    test(`a hole is one when the own broadcast that it might have been ${how}`, async () => {
      const t = await online({}, at(3));
      const own = t.client.broadcast("mine");
      own.catch(() => {});
      const s = t.socket();
      s.say(cast(5));
      await end(s, s.last("broadcast").id);
      assert.equal(t.client.state === "waiting" || t.sockets.length > 1, true);
      assert.deepEqual(of(t, "broadcast"), []);
      assert.equal(t.sockets[0].readyState, 3);
      if (t.client.state === "waiting") await nextAttempt(t);
      assert.equal(t.socket().protocols.at(-1), `parley.broadcast.3.${b64("b")}`);
      t.socket().accept(at(5)).say(history([4, 5]));
      assert.deepEqual(told(t), ["broadcast 4", "broadcast 5", "recovered 5"]);
      t.client.close();
    });
  }

  test("a hole without any own one: a new connection at once", async () => {
    const t = await online({}, at(3));
    t.socket().say(cast(5));
    assert.equal(t.client.state, "waiting");
    (await reconnect(t, at(5))).say(history([4, 5]));
    assert.deepEqual(told(t), ["broadcast 4", "broadcast 5", "recovered 5"]);
    t.client.close();
  });

  test("a second one that is not filled either is a gap", async () => {
    const t = await online({}, at(3));
    t.socket().say(cast(5));
    (await reconnect(t, at(3))).say({ ...history([]), ...at(3) }, cast(5), cast(6));
    assert.deepEqual(told(t), ["recovered 3", "gap 3", "broadcast 5", "broadcast 6"]);
    t.client.close();
  });
});
