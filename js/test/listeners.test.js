// Listeners of the page, and what they may do.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { fakeTime, online, settled } from "./harness.js";

fakeTime({ beforeEach, afterEach });

describe("listeners", () => {
  test("are called until they unsubscribe, also while an event is told", async () => {
    const t = await online();
    const calls = [];
    const stopA = t.client.on("notification", () => {
      calls.push("a");
      stopB();
      t.client.on("notification", () => calls.push("late"));
    });
    const stopB = t.client.on("notification", () => calls.push("b"));
    t.socket().say({ type: "notification", data: 1 });
    assert.deepEqual(calls, ["a"]);
    stopA();
    stopA();
    t.socket().say({ type: "notification", data: 2 });
    assert.deepEqual(calls, ["a", "late"]);
    t.client.close();
  });

  test("that throw are reported as uncaught and disturb nobody", async () => {
    const t = await online();
    const thrown = [];
    const others = process.rawListeners("uncaughtException");
    process.removeAllListeners("uncaughtException");
    process.on("uncaughtException", (e) => thrown.push(e.message));
    try {
      const calls = [];
      t.client.on("notification", () => {
        throw new Error("mine");
      });
      t.client.on("notification", ({ data }) => calls.push(data));
      t.socket().say({ type: "notification", data: 1 }, { type: "notification", data: 2 });
      await settled();
      assert.deepEqual(calls, [1, 2]);
      assert.deepEqual(thrown, ["mine", "mine"]);
    } finally {
      process.removeAllListeners("uncaughtException");
      for (const fn of others) process.on("uncaughtException", fn);
    }
    t.client.close();
  });
});
