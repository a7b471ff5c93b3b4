// The life of a connection: tokens, close codes, the end.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { connect } from "../parley.js";
import { FakeSocket, fakeTime, online, reconnect, settled, start, tick } from "./harness.js";

fakeTime({ beforeEach, afterEach });

describe("connecting", () => {
  test("returns at once, and reports states and ids", async () => {
    const t = await start();
    assert.equal(t.client.state, "connecting");
    assert.equal(t.client.clientId, "");
    t.socket().accept({ clientId: "c9", userId: "kim", username: "Kim" });
    assert.equal(t.client.state, "connected");
    assert.deepEqual([t.client.clientId, t.client.userId, t.client.username], ["c9", "kim", "Kim"]);
    assert.deepEqual(t.events, [
      ["state", { state: "connected", retryIn: undefined }],
      ["connected", { clientId: "c9", userId: "kim", username: "Kim", resumed: undefined }],
    ]);
    t.client.close();
  });

  test("an anonymous user is its client id", async () => {
    const t = await online({}, { clientId: "c9", userId: undefined });
    assert.equal(t.client.userId, "c9");
    t.client.close();
  });

  test("the URL: http becomes ws, relative ones belong to the page, a fragment is cut", async () => {
    const url = async (u) => {
      const t = await start({ url: u });
      t.client.close();
      return t.socket().url;
    };
    assert.equal(await url("http://a.test:8080/x?y=1#z"), "ws://a.test:8080/x?y=1");
    assert.equal(await url("https://a.test/x"), "wss://a.test/x");
    assert.equal(await url("wss://a.test/x"), "wss://a.test/x");
    assert.equal(await url(new URL("https://a.test/u")), "wss://a.test/u");
    globalThis.document = { baseURI: "https://page.test/app/index.html" };
    try {
      assert.equal(await url("realtime"), "wss://page.test/app/realtime");
      assert.equal(await url("/realtime"), "wss://page.test/realtime");
    } finally {
      delete globalThis.document;
    }
  });

  test("a wrong URL and a missing WebSocket are told at once", () => {
    assert.throws(() => connect("realtime", { WebSocket: FakeSocket }), TypeError);
    const there = globalThis.WebSocket;
    globalThis.WebSocket = undefined;
    try {
      assert.throws(() => connect("ws://a.test"), /options\.WebSocket/);
    } finally {
      globalThis.WebSocket = there;
    }
  });

  test("a WebSocket class that refuses the URL is the end", async () => {
    const t = await start({
      WebSocket: class {
        constructor() {
          throw new SyntaxError("no such scheme");
        }
      },
    });
    assert.equal(t.client.state, "closed");
    assert.equal(t.client.closeReason, "no such scheme");
    assert.deepEqual(t.states(), ["closed"]);
  });

  test("an attempt that hangs is given up", async () => {
    const t = await start();
    await tick(19_999);
    assert.equal(t.client.state, "connecting");
    await tick(1);
    assert.equal(t.client.state, "waiting");
    t.sockets[0].accept(); // too late
    assert.equal(t.client.state, "waiting");
    t.client.close();
  });

  test("a second connected is ignored", async () => {
    const t = await online();
    t.socket().say({ type: "connected", clientId: "c2" });
    assert.equal(t.client.clientId, "c1");
    assert.equal(t.events.length, 2);
    t.client.close();
  });
});

describe("token", () => {
  const token = (entry) => Buffer.from(entry.replace("parley.token.", ""), "base64url").toString();

  test("travels as base64url beside the protocol (P1.3), never in the URL", async () => {
    for (const secret of ["abc", "a.b-c_d~??>>", "schlüssel ✓", "x".repeat(4000)]) {
      const t = await start({ token: secret });
      const [protocol, entry, ...rest] = t.socket().protocols;
      assert.equal(protocol, "parley.v1");
      assert.match(entry, /^parley\.token\.[A-Za-z0-9_-]+$/);
      assert.equal(token(entry), secret);
      assert.equal(rest.length, 0);
      assert.equal(t.socket().url, "ws://hub.test/realtime");
      t.client.close();
    }
  });

  test("none is sent when there is none", async () => {
    for (const none of [undefined, null, "", () => undefined, async () => ""]) {
      const t = await start({ token: none });
      assert.deepEqual(t.socket().protocols, ["parley.v1"]);
      t.client.close();
    }
  });

  test("is asked for again before every connect", async () => {
    let n = 0;
    const t = await start({ token: async () => `token${n++}` });
    t.socket().accept().drop(4003);
    await reconnect(t);
    assert.deepEqual(t.sockets.map((s) => token(s.protocols[1])), ["token0", "token1"]);
    t.client.close();
  });

  test("an error leads to another attempt, and is reported", async () => {
    let fail = true;
    const t = await start({
      token: () => {
        if (fail) throw new Error("offline");
        return "ok";
      },
    });
    assert.equal(t.client.state, "waiting");
    assert.deepEqual(t.events[0], ["error", { code: "token", message: "token: offline", room: undefined }]);
    fail = false;
    await reconnect(t);
    assert.equal(t.client.state, "connected");
    t.client.close();
  });

  test("401, 403 and .unauthorized are the end", async () => {
    for (const extra of [{ status: 401 }, { status: 403 }, { unauthorized: true }]) {
      const t = await start({ token: () => Promise.reject(Object.assign(new Error("log in"), extra)) });
      assert.equal(t.client.state, "unauthorized");
      assert.equal(t.client.closeReason, "token: log in");
      await tick(60_000);
      assert.equal(t.sockets.length, 0);
      await assert.rejects(t.client.call("x"), { code: "closed" });
    }
    const t = await start({ token: () => Promise.reject(Object.assign(new Error("busy"), { status: 503 })) });
    assert.equal(t.client.state, "waiting");
    t.client.close();
  });

  test("one that comes after close() or after the deadline is not used", async () => {
    const answers = [];
    const t = await start({ token: () => new Promise((resolve) => answers.push(resolve)) });
    await tick(20_000);
    assert.equal(t.client.state, "waiting");
    answers[0]("late");
    await settled();
    assert.equal(t.sockets.length, 0);
    await tick(500);
    assert.equal(answers.length, 2);
    t.client.close();
    const n = t.events.length;
    answers[1]("late");
    await settled();
    assert.equal(t.sockets.length, 0);

    assert.equal(t.events.length, n);

    for (const extra of [{ status: 401 }, {}]) {
      let fail;
      const u = await start({ token: () => new Promise((_, reject) => (fail = reject)) });
      u.client.close();
      fail(Object.assign(new Error("late"), extra));
      await settled();
      assert.equal(u.client.state, "closed");
      assert.deepEqual(u.states(), ["closed"]);
      assert.ok(!u.events.some(([e]) => e === "error"));
    }
  });
});

describe("close codes (section 7)", () => {
  const comeBack = [1001, 1005, 1006, 1011, 1012, 1013, 1014, 1015, 3000, 4000, 4001, 4002, 4003, 4050, 4099, 4200];
  const stay = [1000, 1002, 1003, 1007, 1008, 1009, 4101, 4102, 4150, 4199];

  for (const code of comeBack) {
    test(`${code} is followed by a new connection`, async () => {
      const t = await online();
      t.socket().drop(code, "why");
      assert.equal(t.client.state, "waiting");
      assert.deepEqual([t.client.closeCode, t.client.closeReason], [code, "why"]);
      await reconnect(t);
      assert.equal(t.client.state, "connected");
      assert.deepEqual(t.states(), ["connected", "waiting", "connecting", "connected"]);
      t.client.close();
    });
  }

  for (const code of stay) {
    test(`${code} is the end`, async () => {
      const t = await online();
      t.socket().drop(code, "why");
      assert.equal(t.client.state, "closed");
      assert.deepEqual([t.client.closeCode, t.client.closeReason], [code, "why"]);
      await tick(3_600_000);
      assert.equal(t.sockets.length, 1);
    });
  }

  test("4100 is unauthorized", async () => {
    const t = await online();
    t.socket().drop(4100, "banned");
    assert.equal(t.client.state, "unauthorized");
    assert.equal(t.client.closeReason, "banned");
    await tick(3_600_000);
    assert.equal(t.sockets.length, 1);
  });

  test("a handshake that fails is tried again for ever: a page is not told why it failed", async () => {
    const t = await start();
    for (let i = 1; i <= 50; i++) {
      t.socket().drop(1006);
      await tick(20_000);
      assert.equal(t.sockets.length, i + 1);
    }
    t.client.close();
  });
});

describe("close()", () => {
  test("ends everything, once, from any state", async () => {
    const inState = {
      connecting: () => start(),
      connected: () => online({}, { pingInterval: 30_000 }),
      waiting: async () => {
        const t = await online();
        t.socket().drop();
        return t;
      },
    };
    for (const [state, make] of Object.entries(inState)) {
      const t = await make();
      assert.equal(t.client.state, state);
      const room = t.client.join("r");
      const asked = [t.client.call("x"), room.send(1), t.client.private("u", 1), room.joined];
      t.client.close();
      t.client.close();
      assert.equal(t.client.state, "closed");
      assert.deepEqual([t.client.closeCode, t.client.closeReason], [1000, ""]);
      for (const p of asked) await assert.rejects(p, { code: "closed", name: "ParleyError" });
      assert.equal(t.states().filter((s) => s === "closed").length, 1);
      const n = t.events.length;
      t.socket().drop(1000);
      t.socket().say({ type: "notification", data: 1 });
      await tick(10_000_000);
      assert.equal(t.events.length, n, "something still ran");
      assert.equal(t.sockets.length, 1);
      await assert.rejects(t.client.call("x"), { code: "closed" });
      await assert.rejects(t.client.join("s").joined, { code: "closed" });
      t.client.signal("u", "n");
      room.signal("n");
      room.leave();
    }
  });

  test("may be called when token() failed", async () => {
    let calls = 0;
    const t = await start({
      token: () => {
        if (calls++) throw new Error("no");
        return "x";
      },
    });
    t.client.on("error", () => t.client.close());
    t.socket().drop();
    await tick(60_000);
    assert.equal(t.client.state, "closed");
    assert.equal(calls, 2);
  });

  test("right after connect() or on connecting: the token is not asked for", async () => {
    let calls = 0;
    const options = { WebSocket: FakeSocket, token: () => void calls++ };
    connect("ws://a.test", options).close();
    await settled();
    assert.equal(calls, 0);
    const t = await start({ token: options.token });
    t.client.on("state", ({ state }) => state === "connecting" && t.client.close());
    t.socket().drop();
    await tick(60_000);
    assert.equal(calls, 1);
  });

  test("asks for a normal end", async () => {
    const t = await online();
    t.client.close();
    assert.equal(t.socket().closedWith, 1000);
  });

  test("may be called by any listener", async () => {
    for (const event of ["state", "connected"]) {
      const t = await start();
      t.client.on(event, () => t.client.close());
      t.socket().accept();
      assert.equal(t.client.state, "closed");
      assert.equal(t.events.some(([e]) => e === "connected"), event === "connected");
      await tick(100_000);
      assert.equal(t.sockets.length, 1);
    }
    const t = await online();
    t.client.on("state", ({ state }) => state === "waiting" && t.client.close());
    t.socket().drop();
    await tick(100_000);
    assert.equal(t.client.state, "closed");
    assert.equal(t.sockets.length, 1);
    const u = await online();
    u.client.on("state", ({ state }) => state === "connecting" && u.client.close());
    u.socket().drop();
    await tick(100_000);
    assert.equal(u.client.state, "closed");
    assert.equal(u.sockets.length, 1);
  });
});
