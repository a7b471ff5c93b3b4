// How long a client waits before it comes back (F38).
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, mock, test } from "node:test";
import { fakeTime, online, start, tick } from "./harness.js";

fakeTime({ beforeEach, afterEach });

describe("backoff", () => {
  const delays = (t) => t.events.filter(([e, p]) => e === "state" && p.state === "waiting").map(([, p]) => p.retryIn);

  test("is full jitter: spread evenly up to min*2^n, at most max (F38)", async () => {
    const byTry = Array.from({ length: 8 }, () => []);
    for (let i = 0; i < 400; i++) {
      const t = await start();
      for (let n = 0; n < byTry.length; n++) {
        t.socket().drop();
        await tick(20_000);
      }
      delays(t).forEach((d, n) => byTry[n].push(d));
      t.client.close();
    }
    byTry.forEach((all, n) => {
      const low = n ? 100 : 0;
      const high = Math.min(20_000, 500 * 2 ** n);
      const quarters = [0, 0, 0, 0];
      for (const d of all) {
        assert.ok(d >= low && d <= high, `try ${n}: ${d}`);
        quarters[Math.min(3, Math.floor((4 * (d - low)) / (high - low)))]++;
      }
      // 400 draws, 100 expected in each quarter; less than 50 happens once in 10^8 runs.
      for (const q of quarters) assert.ok(q > 50, `try ${n}: ${quarters}`);
    });
  });

  test("waits as long as it says", async () => {
    const t = await online();
    t.socket().drop();
    const [delay] = delays(t);
    await tick(Math.floor(delay) - 1);
    assert.equal(t.sockets.length, 1);
    await tick(2);
    assert.equal(t.sockets.length, 2);
    t.client.close();
  });

  test("can be set, and no setting makes it spin", async () => {
    const t = await start({ backoff: { min: 1000, max: 1500 } });
    for (let i = 0; i < 20; i++) {
      t.socket().drop();
      await tick(1500);
    }
    assert.equal(t.sockets.length, 21);
    for (const d of delays(t).slice(1)) assert.ok(d >= 200 && d <= 1500);
    t.client.close();
    const half = await start({ backoff: { max: 100 } });
    half.socket().drop();
    half.socket().drop();
    assert.ok(delays(half).every((d) => d >= 0 && d <= 100));
    half.client.close();
  });

  test("starts anew after 30 s of connection, not before", async () => {
    mock.method(Math, "random", () => 0.999999);
    try {
      for (const [uptime, expected] of [[29_999, 2000], [30_000, 500]]) {
        const t = await start();
        t.socket().drop();
        await tick(500);
        t.socket().drop();
        await tick(1000);
        t.socket().accept();
        await tick(uptime);
        t.socket().drop();
        assert.ok(Math.abs(delays(t).at(-1) - expected) < 1, `${uptime}: ${delays(t).at(-1)}`);
        await tick(expected);
        t.socket().drop();
        assert.ok(Math.abs(delays(t).at(-1) - 2 * expected) < 1, "and then it grows again");
        t.client.close();
      }
    } finally {
      Math.random.mock.restore();
    }
  });

  test("the window of a bye is kept, once, and clients are spread over it (F38)", async () => {
    const seen = [];
    for (let i = 0; i < 200; i++) {
      const t = await online();
      t.socket().say({ type: "bye", code: 4000, reason: "deploy", retryMin: 3000, retryMax: 7000 });
      t.socket().drop(4000, "deploy");
      assert.equal(t.events.find(([e]) => e === "bye")[1].reason, "deploy");
      seen.push(delays(t)[0]);
      await tick(7000);
      t.socket().drop();
      assert.ok(delays(t)[1] <= 500);
      t.client.close();
    }
    assert.ok(Math.min(...seen) >= 3000 && Math.max(...seen) <= 7000);
    assert.ok(Math.min(...seen) < 3500 && Math.max(...seen) > 6500, "not spread");
  });

  test("a window too long for a timer does not become none", async () => {
    const t = await online();
    t.socket().say({ type: "bye", code: 4000, reason: "", retryMin: 2 ** 52, retryMax: 2 ** 53 - 1 });
    t.socket().drop(4000);
    await tick(60_000);
    assert.equal(t.sockets.length, 1);
    t.client.close();
  });
});
