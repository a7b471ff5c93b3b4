// The inbox with its read state: what is listed, what marks do to it, and in which order they may come.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { openInbox } from "../inbox.js";
import { fakeTime, online, range, reconnect, settled, start, tick } from "./harness.js";

fakeTime({ beforeEach, afterEach });

const note = (offset, more) => ({ type: "notification", data: `n${offset}`, timestamp: 1, epoch: "i", offset, ...more });
const list = (from, to, more) => ({ type: "inbox", epoch: "i", offset: to, unread: to, version: to, messages: range(from, to).map((o) => note(o)), ...more });
const marked = (as, version, offsets, more) => ({ type: "marked", as, epoch: "i", offsets, unread: 1, version, ...more });
/** "offset state", the newest first. */
const shown = (box) => box.items.map((i) => `${i.offset} ${i.state}`).join(", ");
const answer = (t, type, message) => (t.socket().say({ ...message, id: t.socket().last(type).id }), settled());

async function opened(options, connected) {
  const t = await start();
  const box = openInbox(t.client, options);
  t.socket().accept(connected);
  let changes = 0;
  box.on("change", () => changes++);
  const told = async () => (await settled(), changes);
  return { ...t, box, told };
}

describe("the list", () => {
  test("is that of the server, newest first, then what comes live and what was missed, each once", async () => {
    const t = await opened();
    t.socket().say(list(1, 2, { read: [[1, 1]], unread: 1, version: 3 }));
    assert.equal(shown(t.box), "2 unread, 1 read");
    const private5 = { type: "private", senderId: "u2", message: 1, timestamp: 1, epoch: "i", offset: 3, unread: 2, version: 4 };
    t.socket().say(private5, private5);
    assert.deepEqual([t.box.unread, t.box.version], [2, 4]);
    assert.deepEqual(t.box.items[0], { type: "private", senderId: "u2", message: 1, timestamp: 1, epoch: "i", offset: 3, state: "unread" });
    t.socket().drop();
    (await reconnect(t)).say(list(4, 5, { recovered: true, read: [[1, 2], [4, 4]], archived: [[3, 3]], unread: 1, version: 9 }));
    assert.equal(shown(t.box), "5 unread, 4 read, 3 archived, 2 read, 1 read");
    assert.deepEqual([t.box.unread, t.box.version, t.box.hasMore], [1, 9, false]);
    assert.equal(t.sockets[0].of("history").length + t.socket().of("history").length, 0, "nothing had to be asked for");
    t.client.close();
  });

  test("keeps id and kind, and changes by a new array with the same objects", async () => {
    const t = await opened();
    const told = await t.told();
    t.socket().say(list(1, 2));
    const before = t.box.items;
    t.socket().say(note(3, { id: "order-1", kind: "order", unread: 3, version: 4 }));
    assert.equal(before.length, 2);
    assert.ok(t.box.items[1] === before[0] && t.box.items[2] === before[1]);
    assert.deepEqual(t.box.items[0], { ...note(3), id: "order-1", kind: "order", state: "unread" });
    assert.equal(await t.told(), told + 1, "once for all that happened at a time");
    t.client.close();
  });

  test("holds the newest 100, or as many as is said, and what more() has added", async () => {
    const t = await opened({ limit: 3 });
    t.socket().say(list(1, 4));
    assert.deepEqual([shown(t.box), t.box.hasMore], ["4 unread, 3 unread, 2 unread", true]);
    const more = t.box.more();
    assert.deepEqual({ ...t.socket().last("history"), id: 0 }, { type: "history", topic: "inbox", before: 2, limit: 50, id: 0 });
    await answer(t, "history", list(1, 1, { more: false, offset: 4 }));
    assert.equal(await more, false);
    assert.equal(t.box.items.length, 4);
    t.socket().say(note(5));
    assert.deepEqual(t.box.items.map((i) => i.offset), [5, 4, 3, 2]);
    assert.equal(t.box.hasMore, true);
    t.client.close();
  });

  test("of a client that is connected already is asked for, and what comes meanwhile is not doubled", async () => {
    const t = await online();
    t.socket().say(list(1, 2));
    const box = openInbox(t.client);
    t.socket().say(note(3), marked("read", 9, [[1, 1]]));
    await answer(t, "history", list(1, 4, { more: false, version: 8 }));
    t.socket().say(note(4));
    assert.equal(shown(box), "4 unread, 3 unread, 2 unread, 1 read");
    t.client.close();
  });

  test("that could not be loaded is asked for again after the next connect", async () => {
    const t = await online();
    t.socket().say(list(1, 2));
    const box = openInbox(t.client);
    t.socket().drop();
    const s = await reconnect(t);
    s.say(list(3, 3, { recovered: true }));
    assert.equal(shown(box), "3 unread");
    await answer(t, "history", list(1, 3, { more: false }));
    assert.equal(shown(box), "3 unread, 2 unread, 1 unread");
    t.client.close();
  });

  test("pages go on below entries whose time was over (P8.7), and end", async () => {
    const t = await opened();
    t.socket().say(list(201, 300));
    const more = t.box.more();
    const expired = range(151, 200).map((offset) => ({ type: "expired", epoch: "i", offset }));
    await answer(t, "history", { ...list(1, 0), offset: 300, messages: expired, more: true });
    assert.equal(t.socket().last("history").before, 151);
    await answer(t, "history", list(101, 150, { offset: 300, more: true }));
    assert.equal(await more, true);
    assert.deepEqual([t.box.items.length, t.box.items.at(-1).offset], [150, 101]);
    t.socket().say({ type: "expired", epoch: "i", offset: 301 }, note(302));
    assert.deepEqual([t.box.items[0].offset, t.events.filter(([e]) => e === "gap").length], [302, 0]);
    t.client.close();
  });

  test("a page of a list that has begun anew is left out", async () => {
    const t = await opened();
    t.socket().say(list(11, 12));
    const more = t.box.more();
    t.socket().say({ ...list(1, 1, { recovered: false, code: "reset" }), epoch: "j", messages: [note(1, { epoch: "j" })] });
    await answer(t, "history", list(1, 10, { more: false }));
    await more;
    assert.equal(shown(t.box), "1 unread");
    t.client.close();
  });

  test("a gap begins it anew (P4.10), and so does another log", async () => {
    for (const [code, epoch, version] of [["gone", "i", 30], ["ahead", "i", 2], ["reset", "j", 2]]) {
      const t = await opened();
      t.socket().say(list(1, 3, { version: 20, read: [[1, 3]] }), marked("read", 21, [[50, 50]]));
      t.socket().drop();
      const messages = [note(2, { epoch }), note(50, { epoch })];
      (await reconnect(t)).say({ ...list(1, 0), messages, epoch, offset: 50, recovered: false, code, version, unread: 2 });
      assert.equal(shown(t.box), "50 unread, 2 unread", code);
      assert.deepEqual([t.box.unread, t.box.version], [2, code === "gone" ? 30 : 2]);
      t.client.close();
    }
  });

  test("a hole that no list fills is asked for", async () => {
    const t = await opened();
    t.socket().say(list(1, 1), note(3));
    (await reconnect(t)).say(list(1, 1, { recovered: true, messages: [] }), note(3));
    await settled();
    assert.deepEqual(t.events.map(([e]) => e).slice(-2), ["gap", "notification"]);
    await answer(t, "history", list(1, 3, { more: false }));
    assert.equal(shown(t.box), "3 unread, 2 unread, 1 unread");
    t.client.close();
  });

  test("after close() nothing is told, and nothing changes", async () => {
    const t = await opened();
    t.socket().say(list(1, 1));
    t.box.close();
    t.socket().say(note(2), marked("read", 7, [[1, 1]]));
    assert.equal(await t.told(), 0);
    assert.equal(shown(t.box), "1 unread");
    t.client.close();
  });

  test("a listener that throws is reported as uncaught and disturbs nobody; one that has unsubscribed hears nothing", async () => {
    const t = await opened();
    const thrown = [];
    const others = process.rawListeners("uncaughtException");
    process.removeAllListeners("uncaughtException");
    process.on("uncaughtException", (e) => thrown.push(e.message));
    try {
      t.box.on("change", () => {
        throw new Error("mine");
      });
      t.box.on("change", () => assert.fail("unsubscribed"))();
      let calls = 0;
      t.box.on("change", () => calls++);
      t.socket().say(list(1, 1));
      await settled();
      assert.deepEqual([thrown, calls], [["mine"], 1]);
    } finally {
      process.removeAllListeners("uncaughtException");
      for (const fn of others) process.on("uncaughtException", fn);
    }
    t.client.close();
  });
});

describe("marks of others", () => {
  test("change what they name, and nothing else", async () => {
    const t = await opened();
    t.socket().say(list(1, 4));
    const [, three] = t.box.items;
    t.socket().say(marked("read", 5, [[1, 2]], { unread: 2 }), marked("archived", 6, [[4, 4]], { unread: 1 }));
    assert.equal(shown(t.box), "4 archived, 3 unread, 2 read, 1 read");
    assert.equal(t.box.items[1], three);
    assert.deepEqual([t.box.unread, t.box.version], [1, 6]);
    t.socket().say(marked("unread", 7, [[2, 2], [4, 4]], { unread: 3 }));
    assert.equal(shown(t.box), "4 unread, 3 unread, 2 unread, 1 read");
    t.client.close();
  });

  test("that overtake what they mark count for it (P8.5)", async () => {
    const t = await opened();
    t.socket().say(list(1, 1), marked("archived", 9, [[2, 3]], { unread: 1 }), note(2, { unread: 2, version: 2 }), note(3, { unread: 3, version: 3 }));
    assert.equal(shown(t.box), "3 archived, 2 archived, 1 unread");
    assert.equal(t.box.unread, 1);
    t.client.close();
  });

  test("that come in another order than they were made end the same (P8.1)", async () => {
    const made = [marked("read", 5, [[1, 2]]), marked("unread", 6, [[2, 3]]), marked("archived", 7, [[3, 3]]), marked("unread", 8, [[3, 3]])];
    for (const order of [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]]) {
      const t = await opened();
      t.socket().say(list(1, 3), ...order.map((i) => made[i]));
      assert.equal(shown(t.box), "3 unread, 2 unread, 1 read", order.join());
      t.client.close();
    }
  });

  test("older than what a list says change nothing; newer ones stand (P8.2)", async () => {
    const t = await opened();
    t.socket().say(list(1, 3, { version: 10, read: [[1, 1]] }), marked("unread", 9, [[1, 1]]), marked("read", 12, [[2, 2]]));
    const more = t.box.more();
    await answer(t, "history", list(1, 0, { offset: 3, version: 11, archived: [[3, 3]], more: false }));
    await more;
    assert.equal(shown(t.box), "3 archived, 2 read, 1 unread");
    t.client.close();
  });

  test("newer than what a page says stand, and so does what an earlier list said", async () => {
    const t = await opened();
    t.socket().say(list(11, 12, { version: 20, read: [[11, 12]] }));
    const more = t.box.more();
    await answer(t, "history", list(10, 10, { offset: 12, version: 19, archived: [[10, 12]], unread: 0, more: false }));
    await more;
    assert.deepEqual([shown(t.box), t.box.unread], ["12 read, 11 read, 10 unread", 12]);
    t.client.close();
  });

  test("what many of them add up to is asked for, so that they need not be kept", async () => {
    const t = await opened();
    t.socket().say(list(1, 2));
    for (const version of range(3, 400)) {
      t.socket().say(marked(version % 2 ? "read" : "unread", version, [[1, 1]]));
      if (t.socket().of("history").length === 1 && !t.answered) {
        t.answered = true;
        assert.equal(t.socket().last("history").limit, 1);
        await answer(t, "history", list(2, 2, { version, read: version % 2 ? [[1, 1]] : [] }));
      }
    }
    assert.ok(t.answered);
    assert.equal(shown(t.box), "2 unread, 1 unread");
    t.client.close();
  });

  test("nonsense of the server changes nothing and throws nothing", async () => {
    const t = await opened();
    t.socket().say(list(1, 2));
    t.socket().say(
      marked("eaten", 9, [[1, 2]]), marked("read", undefined, [[1, 2]]), marked("read", 9, [[1, 2]], { epoch: "x" }), marked("read", 9, [[], [1], [2, 1]]),
      { type: "inbox", messages: [null, 7, note(3, { offset: "3" })], epoch: "i", offset: 2, recovered: true, read: [[]] },
    );
    assert.equal(shown(t.box), "2 unread, 1 unread");
    t.socket().say(marked("read", 10, [[0, Number.MAX_SAFE_INTEGER]]));
    assert.equal(shown(t.box), "2 read, 1 read");
    t.client.close();
  });
});

describe("marking", () => {
  const sent = (t) => t.socket().sent.map(({ id, ...m }) => m);

  test("an item, a list, up to an offset, by ids, all", async () => {
    const t = await opened();
    t.socket().say(list(1, 3));
    const [three, two] = t.box.items;
    const done = [
      t.box.markRead(three), t.box.archive([two, three]), t.box.markUnread({ upTo: 2 }), t.box.markRead({ ids: ["a"] }), t.box.markRead(), t.box.archive(),
    ];
    assert.deepEqual(sent(t), [
      { type: "read", epoch: "i", offsets: [3] }, { type: "archive", epoch: "i", offsets: [2, 3] }, { type: "unread", epoch: "i", offset: 2 },
      { type: "read", ids: ["a"] }, { type: "read", epoch: "i", offset: 3 }, { type: "archive", epoch: "i", offset: 3 },
    ]);
    assert.equal(shown(t.box), "3 unread, 2 unread, 1 unread", "nothing is guessed");
    t.socket().say(...t.socket().sent.map(({ id }, i) => ({ type: "ack", id, epoch: "i", unread: 0, version: 10 + i })));
    await Promise.all(done);
    assert.deepEqual([t.box.unread, t.box.version], [0, 15]);
    t.client.close();
  });

  test("of nothing sends nothing", async () => {
    const t = await opened();
    await t.box.markRead();
    t.socket().say(list(1, 1));
    await t.box.markRead([]);
    await t.box.archive([{ ...t.box.items[0], epoch: "h" }]);
    await t.box.archive({ ids: [] });
    assert.deepEqual(t.socket().sent, []);
    t.client.close();
  });

  test("of more than 100 at once takes several messages (P2.3)", async () => {
    const t = await opened({ limit: 250 });
    t.socket().say(list(1, 230));
    const done = [t.box.markRead(t.box.items), t.box.archive({ ids: range(1, 101).map(String) })];
    assert.deepEqual(t.socket().sent.map((m) => (m.offsets ?? m.ids).length), [100, 100, 30, 100, 1]);
    t.socket().say(...t.socket().sent.map(({ id }) => ({ type: "ack", id })));
    await Promise.all(done);
    t.client.close();
  });

  test("survives the connection with the same id; what is refused is told", async () => {
    const t = await opened();
    t.socket().say(list(1, 1));
    const done = t.box.markRead();
    const { id } = t.socket().last("read");
    t.socket().drop();
    const later = t.box.archive({ upTo: 9 });
    const s = await reconnect(t);
    assert.deepEqual(s.of("read").map((m) => m.id), [id]);
    s.say({ type: "error", id: s.last("archive").id, code: "ahead", message: "no" }, { type: "ack", id, epoch: "i", unread: 0, version: 3 });
    await done;
    await assert.rejects(later, { code: "ahead" });
    t.client.close();
  });

  test("is not done in the inbox of another user, sent or not (P4.13)", async () => {
    const t = await opened({}, { userId: "kim" });
    t.socket().say(list(1, 1));
    const asked = [t.box.markRead()];
    t.socket().drop();
    asked.push(t.box.archive());
    await reconnect(t, { userId: "lee", clientId: "c2" });
    for (const p of asked) await assert.rejects(p, { code: "disconnected" });
    await settled();
    t.socket().accept({ userId: "lee", clientId: "c2" });
    assert.deepEqual(t.socket().sent, []);
    assert.deepEqual([t.box.items, t.box.unread], [[], 0]);
    t.client.close();
  });

  test("of what the server does not keep any more takes it off the list, once it is sure (P8.4)", async () => {
    const ack = (t, version) => (t.socket().say({ type: "ack", id: t.socket().sent.at(-1).id, epoch: "i", unread: 3, version }), settled());
    for (const [name, how, answers, left] of [
      ["one", (box) => box.markRead(box.items[2]), [{}], "3 unread, 2 read"],
      ["all", (box) => box.archive(), [{}], "2 read"],
      ["by id", (box) => box.markRead({ ids: ["b", "a"] }), [{}], "3 unread, 2 read"],
      ["only not told yet", (box) => box.markRead(box.items[2]), [{ read: [[1, 2]] }], "3 unread, 2 read, 1 read"],
      ["something came between", (box) => box.markRead(box.items[2]), [{ version: 5 }], "3 unread, 2 read, 1 unread"],
      ["another log", (box) => box.markRead(box.items[2]), [{ epoch: "j", version: 4 }], "3 unread, 2 read, 1 unread"],
      ["unread", (box) => box.markUnread(box.items[2]), [], "3 unread, 2 read, 1 unread"],
      ["read already", (box) => box.markRead(box.items[1]), [], "3 unread, 2 read, 1 unread"],
    ]) {
      const t = await opened();
      t.socket().say(list(1, 3, { version: 4, read: [[2, 2]], messages: [note(1, { id: "a" }), note(2), note(3)] }));
      const done = how(t.box);
      await ack(t, 4);
      await done;
      assert.equal(t.socket().of("history").length, answers.length, name);
      const told = await t.told();
      for (const more of answers) await answer(t, "history", list(3, 3, { version: 4, read: [[2, 2]], ...more }));
      assert.equal(shown(t.box), left, name);
      assert.equal(await t.told(), told + (name === "another log" ? 0 : answers.length), name);
      t.client.close();
    }
  });

  test("of what is told as marked before it is acknowledged asks for nothing", async () => {
    const t = await opened();
    t.socket().say(list(1, 2));
    const done = t.box.markRead();
    t.socket().say(marked("read", 3, [[1, 2]]), { type: "ack", id: t.socket().last("read").id, epoch: "i", unread: 0, version: 3 });
    await done;
    assert.deepEqual(t.socket().of("history"), []);
    assert.equal(shown(t.box), "2 read, 1 read");
    t.client.close();
  });

  test("what was cut off is told until everything up to there is marked (P8.3)", async () => {
    const t = await opened();
    t.socket().say(list(5, 6, { truncated: 4 }));
    assert.equal(t.box.truncated, 4);
    for (const [how, left] of [[() => t.box.markUnread({ upTo: 6 }), 4], [() => t.box.markRead({ upTo: 3 }), 4], [() => t.box.markRead(t.box.items), 4], [() => t.box.markRead(), undefined]]) {
      const done = how();
      t.socket().say({ type: "ack", id: t.socket().sent.at(-1).id, epoch: "i", unread: 0, version: 9 });
      await done;
      assert.equal(t.box.truncated, left);
    }
    t.client.close();
  });
});

describe("receipts (P8.6)", () => {
  const receipts = (t) => t.socket().of("received").map(({ type, ...m }) => m);

  test("of what was processed, without an id, at most once a second, after each connect", async () => {
    const t = await online({}, { receipts: true });
    assert.deepEqual(receipts(t), []);
    t.socket().say(list(1, 1));
    assert.deepEqual(receipts(t), [{ epoch: "i", offset: 1 }]);
    t.socket().say(note(2), note(3));
    await tick(999);
    assert.equal(receipts(t).length, 1);
    await tick(1);
    assert.deepEqual(receipts(t).slice(1), [{ epoch: "i", offset: 3 }]);
    await tick(5000);
    assert.equal(receipts(t).length, 2);
    t.socket().say(note(4));
    t.socket().drop();
    const s = await reconnect(t, { receipts: true });
    assert.deepEqual(s.of("received"), []);
    s.say(list(1, 4, { recovered: true, messages: [] }));
    assert.deepEqual(receipts(t), [{ epoch: "i", offset: 4 }]);
    t.client.on("notification", () => t.client.close());
    s.say(note(5));
    assert.equal(receipts(t).length, 1);
  });

  test("are not sent where they are not asked for, nor without a position", async () => {
    const t = await online();
    t.socket().say(list(1, 1));
    t.socket().drop();
    const s = await reconnect(t, { receipts: true, userId: "u2" });
    await settled();
    t.socket().accept({ receipts: true, userId: "u2" }).say({ type: "inbox", messages: [] });
    await tick(3000);
    assert.deepEqual([...s.sent, ...t.socket().sent], []);
    t.client.close();
  });
});
