// What a page learns of its connection only by looking: the network, sleep, a restored page, silence (F40, F41).
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, mock, test } from "node:test";
import { clock, fakeTime, online, start, tick } from "./harness.js";

fakeTime({ beforeEach, afterEach });

describe("page events", () => {
  let page;
  beforeEach(() => {
    page = new EventTarget();
    globalThis.document = { visibilityState: "visible", baseURI: "http://page.test/" };
    globalThis.addEventListener = page.addEventListener.bind(page);
    globalThis.removeEventListener = page.removeEventListener.bind(page);
  });
  afterEach(() => {
    delete globalThis.document;
    delete globalThis.addEventListener;
    delete globalThis.removeEventListener;
  });
  const fire = async (name, more) => {
    page.dispatchEvent(Object.assign(new Event(name), more));
    await tick(1);
  };

  for (const name of ["online", "pageshow", "visibilitychange"]) {
    test(`${name} ends the waiting`, async () => {
      const t = await start();
      for (let i = 0; i < 6; i++) {
        t.socket().drop();
        await tick(20_000);
      }
      t.socket().drop();
      const n = t.sockets.length;
      await fire(name);
      assert.equal(t.sockets.length, n + 1);
      assert.equal(t.client.state, "connecting");
      await tick(19_998);
      assert.equal(t.sockets.length, n + 1, "the old timer still ran");
      t.client.close();
    });

    test(`${name} asks a connection whether it lives`, async () => {
      const t = await online();
      await fire(name);
      assert.equal(t.socket().of("ping").length, 1);
      await tick(4998);
      assert.equal(t.client.state, "connected");
      await tick(1);
      assert.deepEqual(t.states().slice(1), ["waiting", "connecting"]);
      assert.notEqual(t.sockets[0].readyState, 1);
      t.socket().accept();
      assert.equal(t.client.state, "connected");
      t.client.close();
    });
  }

  test("what else comes is no answer: it may have been on its way since before the connection died (F2)", async () => {
    const t = await online();
    await fire("online");
    t.socket().say({ type: "something-new" });
    await tick(6000);
    t.socket().say({ type: "something-new" });
    assert.equal(t.client.state, "connected", "but it is no silence either: a slow line has a lot to bring");
    assert.equal(t.socket().of("ping").length, 2);
    await tick(8998);
    assert.equal(t.client.state, "connected");
    await tick(2);
    assert.equal(t.states()[1], "waiting");
    t.client.close();
  });

  test("an answer ends the asking, and so does a refusal", async () => {
    for (const answer of [{ type: "pong", timestamp: 1 }, { type: "error", code: "rate_limited", message: "slow down" }]) {
      const t = await online();
      await fire("online");
      t.socket().say({ ...answer, id: t.socket().last("ping").id });
      await tick(60_000);
      assert.equal(t.client.state, "connected");
      assert.equal(t.socket().of("ping").length, 1);
      t.client.close();
    }
  });

  test("nothing is done when the page becomes hidden", async () => {
    const t = await online();
    document.visibilityState = "hidden";
    await fire("visibilitychange");
    assert.equal(t.socket().sent.length, 0);
    t.client.close();
  });

  test("the window of a bye holds against them, and is over when a throttled timer overslept it", async () => {
    const t = await online();
    t.socket().say({ type: "bye", code: 4000, reason: "", retryMin: 5000, retryMax: 5000 });
    t.socket().drop(4000);
    await tick(4000);
    await fire("online");
    assert.equal(t.sockets.length, 1);
    clock.now += 2000; // and no timer runs
    clock.timers.clear();
    await fire("visibilitychange");
    assert.equal(t.sockets.length, 2);
    t.client.close();
  });

  test("online starts the backoff anew", async () => {
    const t = await start();
    for (let i = 0; i < 6; i++) {
      t.socket().drop();
      await tick(20_000);
    }
    t.socket().drop();
    await fire("online");
    t.socket().drop();
    assert.ok(t.events.at(-1)[1].retryIn <= 500);
    t.client.close();
  });

  test("online is heard in a hidden page, too", async () => {
    const t = await start();
    t.socket().drop();
    await tick(500);
    for (let i = 0; i < 6; i++) {
      t.socket().drop();
      await tick(20_000);
    }
    await tick(1000); // one attempt a second
    t.socket().drop();
    document.visibilityState = "hidden";
    const n = t.sockets.length;
    await fire("visibilitychange");
    assert.equal(t.sockets.length, n);
    await fire("online");
    assert.equal(t.sockets.length, n + 1);
    t.client.close();
  });

  test("events that come in a flood don't make one of connections", async () => {
    const t = await start();
    for (let i = 0; i < 200; i++) {
      t.socket().drop();
      for (const name of ["online", "pageshow", "visibilitychange"]) await fire(name);
      await tick(47);
    }
    // 10 s: one attempt a second, and those of the backoff, which "online" starts anew each time: one in 250 ms.
    assert.ok(t.sockets.length <= 80, `${t.sockets.length} connections in 10 s`);
    t.client.close();
  });

  test("an attempt that hangs since before the network changed is made anew", async () => {
    for (const [name, expected] of [["online", 2], ["pageshow", 2], ["visibilitychange", 1]]) {
      const t = await start();
      await tick(4000);
      await fire(name);
      assert.equal(t.sockets.length, 1, "too young");
      await tick(1000);
      await fire(name);
      assert.equal(t.sockets.length, expected, name);
      assert.equal(t.client.state, "connecting");
      if (expected === 2) assert.equal(t.sockets[0].readyState, 3);
      t.sockets[0].accept({ clientId: "old" });
      assert.equal(t.client.clientId, expected === 2 ? "" : "old");
      assert.deepEqual(t.states(), expected === 2 ? [] : ["connected"]);
      t.client.close();
    }
  });

  test("a restored page whose socket is closed does not wait for the event", async () => {
    const t = await online();
    await tick(60_000);
    t.socket().readyState = 3; // and no close event
    await fire("pageshow", { persisted: true });
    assert.equal(t.sockets.length, 2);
    assert.deepEqual(t.states().slice(1), ["waiting", "connecting"]);
    t.sockets[0].drop(1000); // it comes in the end, and is nobody's
    t.sockets[1].accept();
    assert.equal(t.client.state, "connected");
    t.client.close();
  });

  test("a page that is put into the back-forward cache keeps no connection, and has one when it is back", async () => {
    const t = await online({}, { session: "s" });
    await tick(60_000);
    await fire("pagehide", { persisted: true });
    assert.equal(t.sockets[0].readyState, 3);
    assert.equal(t.sockets[0].closedWith, 4000, "it comes back");
    assert.equal(t.client.state, "waiting");
    clock.now += 3_600_000; // no timer runs in the cache
    await fire("pageshow", { persisted: true });
    assert.equal(t.sockets.length, 2);
    assert.equal(t.socket().protocols.at(-1), "parley.session.s");
    t.client.close();
  });

  test("pagehide: one that still connects is given up as well, one that waits goes on waiting", async () => {
    const t = await start();
    await fire("pagehide", { persisted: true });
    assert.deepEqual([t.client.state, t.sockets[0].readyState], ["waiting", 3]);
    t.client.close();

    const u = await online();
    u.socket().drop(4001);
    const timers = [...clock.timers.keys()];
    await fire("pagehide", { persisted: true });
    assert.equal(u.client.closeCode, 4001);
    assert.deepEqual([...clock.timers.keys()], timers);
    u.client.close();
  });

  test("a page that ends closes nothing: browsers do that", async () => {
    const t = await online();
    await fire("pagehide", { persisted: false });
    assert.equal(t.client.state, "connected");
    t.client.close();
  });

  test("a close that is read only after the page woke up is followed at once, like one before", async () => {
    for (const backoff of [{}, { min: 1e9, max: 1e9 }]) {
      const t = await online({ backoff });
      await fire("visibilitychange");
      t.socket().drop(4000); // it lay there
      assert.equal(t.events.at(-1)[1].retryIn, 0);
      await tick(1);
      assert.equal(t.sockets.length, 2);
      t.socket().accept().drop();
      assert.notEqual(t.events.at(-1)[1].retryIn, 0, "once");
      t.client.close();
    }
    const t = await online({ backoff: { min: 1e9, max: 1e9 } });
    await fire("online");
    await tick(5001);
    assert.equal(t.sockets.length, 2, "and so is silence");
    t.socket().accept();
    await fire("online");
    t.socket().say({ type: "pong", timestamp: 1 });
    await tick(10_000);
    t.socket().drop();
    assert.notEqual(t.events.at(-1)[1].retryIn, 0, "a connection that lived was no dead one");
    t.client.close();
  });

  test("a listener may end the client while that happens", async () => {
    const t = await online();
    await tick(60_000);
    t.client.on("state", () => t.client.close());
    t.socket().readyState = 3;
    await fire("pageshow", { persisted: true });
    await tick(60_000);
    assert.equal(t.client.state, "closed");
    assert.equal(t.sockets.length, 1);
  });

  test("the pageshow of a first load is no reason for anything", async () => {
    const t = await online();
    await fire("pageshow", { persisted: false });
    assert.equal(t.socket().sent.length, 0);
    t.client.close();
  });

  test("the wall clock may jump (F40)", async () => {
    for (const jump of [-3.6e6, 3.6e6, 1e12]) {
      const t = await online({}, { pingInterval: 30_000 });
      t.socket().say({ type: "bye", code: 4000, reason: "", retryMin: 5000, retryMax: 5000 });
      clock.wall += jump;
      t.socket().drop(4000);
      clock.wall += jump;
      await fire("online");
      assert.equal(t.sockets.length, 1, "the window of the bye holds");
      await tick(4999);
      assert.equal(t.sockets.length, 2, "and ends when it should");
      t.socket().accept();
      clock.wall += jump;
      t.socket().drop();
      assert.ok(t.events.at(-1)[1].retryIn <= 500);
      await tick(500);
      t.socket().drop();
      await tick(1000);
      t.socket().accept();
      clock.wall += jump;
      t.socket().drop();
      assert.ok(t.events.at(-1)[1].retryIn >= 100, "no 30 s of connection, whatever the clock says");
      t.client.close();
    }
  });

  test("close() lets go of the page", async () => {
    const removed = mock.method(globalThis, "removeEventListener");
    const t = await online();
    t.client.close();
    assert.deepEqual(removed.mock.calls.map((c) => c.arguments[0]).sort(), ["online", "pagehide", "pageshow", "visibilitychange"]);
    await fire("online");
    assert.equal(t.socket().sent.length, 0);
    assert.equal(t.sockets.length, 1);
  });
});

describe("silence", () => {
  test("is asked about after pingInterval, and ended", async () => {
    const t = await online({}, { pingInterval: 30_000 });
    await tick(29_999);
    assert.equal(t.socket().sent.length, 0);
    await tick(1);
    assert.equal(t.socket().of("ping").length, 1);
    t.socket().say({ type: "pong", id: t.socket().last("ping").id, timestamp: 1 });
    await tick(35_000);
    assert.equal(t.client.state, "connected");
    assert.equal(t.socket().of("ping").length, 1, "something was heard since the last look");
    await tick(25_000);
    assert.equal(t.socket().of("ping").length, 2);
    await tick(5000);
    assert.equal(t.client.state, "waiting");
    t.client.close();
  });

  test("timers of a hidden page run once a minute: a dead connection is found all the same (F41)", async () => {
    const t = await online({}, { pingInterval: 30_000 });
    const minutes = async (n) => {
      for (let i = 0; i < n; i++) {
        clock.now += 59_000; // overslept
        await tick(1000);
      }
    };
    await minutes(1);
    assert.equal(t.socket().of("ping").length, 1);
    t.socket().say({ type: "pong", id: t.socket().last("ping").id, timestamp: 1 });
    await minutes(1);
    assert.equal(t.client.state, "connected", "a connection that answers is not given up");
    await minutes(3);
    assert.ok(t.sockets.length > 1);
    t.client.close();
  });

  test("a timer that overslept is no proof: what came meanwhile is read first (F41)", async () => {
    const t = await online({}, { pingInterval: 30_000 });
    await tick(30_000);
    assert.equal(t.socket().of("ping").length, 1);
    clock.now += 3_600_000; // the page is frozen; the pong lies in the socket
    const [first] = [...clock.timers.entries()].sort(([, a], [, b]) => a.at - b.at);
    clock.timers.delete(first[0]);
    first[1].fn();
    assert.equal(t.client.state, "connected");
    assert.equal(t.socket().of("ping").length, 2);
    t.socket().say({ type: "pong", id: t.socket().last("ping").id, timestamp: 1 });
    await tick(20_000);
    assert.equal(t.client.state, "connected");
    assert.equal(t.sockets.length, 1);
    t.client.close();
  });

  test("a refused ping of the client's own is nobody's error", async () => {
    const t = await online({}, { pingInterval: 30_000 });
    await tick(30_000);
    t.socket().say({ type: "error", id: t.socket().last("ping").id, code: "rate_limited", message: "slow down" });
    await tick(5000);
    assert.equal(t.client.state, "connected", "it is a sign of life");
    assert.equal(t.events.filter(([e]) => e === "error").length, 0);
    t.client.close();
  });

  test("timers that have run are forgotten", async () => {
    const t = await online({}, { pingInterval: 30_000 });
    for (let i = 0; i < 50; i++) {
      await tick(30_000);
      t.socket().say({ type: "notification", data: i });
    }
    const cleared = mock.method(globalThis, "clearTimeout");
    t.client.close();
    assert.ok(cleared.mock.callCount() <= 2, `${cleared.mock.callCount()} timers were held`);
    cleared.mock.restore();
  });

  test("a busy connection is never asked", async () => {
    const t = await online({}, { pingInterval: 30_000 });
    for (let i = 0; i < 10; i++) {
      await tick(20_000);
      t.socket().say({ type: "notification", data: i });
    }
    assert.equal(t.socket().sent.length, 0);
    t.client.close();
  });

  test("a tiny interval does not make a flood", async () => {
    const t = await online({}, { pingInterval: 1 });
    for (let i = 0; i < 10; i++) {
      await tick(1000);
      for (const { id } of t.socket().of("ping")) t.socket().say({ type: "pong", id, timestamp: 1 });
    }
    assert.ok(t.socket().of("ping").length <= 2);
    t.client.close();
  });
});
