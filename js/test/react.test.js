// useRoom, in the React that is installed, over the real client.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { GRACE, act, h, pass, probe, root, say, strict, types } from "./dom.js";
import { useEffect } from "react";
import { useRoom } from "@parley-go/client/react";
import { fakeTime, history, message, online, range, reconnect, settled } from "./harness.js";

fakeTime({ beforeEach, afterEach });

const room = (client, name = "r", options) => probe(() => useRoom(client, name, options));
const contents = (p) => p.now().messages.map((m) => m.content);

describe("useRoom", () => {
  test("joins, shows the history and what follows, and leaves a second after the last component", async () => {
    const t = await online();
    const { container, render, unmount } = root();
    const p = room(t.client, "r", { username: "kim" });
    await render(h(p.Probe));
    assert.deepEqual(p.seen[0], { room: undefined, messages: [], more: false, gap: undefined, error: undefined, send: p.now().send, older: p.now().older });
    const join = t.socket().last("join");
    assert.deepEqual(join, { type: "join", room: "r", username: "kim", id: join.id });
    await say(t.socket(), history([1, 2]), message(3));
    assert.deepEqual(contents(p), ["m1", "m2", "m3"]);
    assert.equal(container.textContent, "m1m2m3");
    assert.equal(p.now().room, t.client.join("r"));
    await unmount();
    await pass(GRACE - 1);
    assert.deepEqual(types(t.socket()), ["join"]);
    await pass(1);
    assert.deepEqual(types(t.socket()), ["join", "leave"]);
    t.client.close();
  });

  test("StrictMode: one join, each message once, one leave", async () => {
    const t = await online();
    const { container, render, unmount, errors } = root();
    const p = room(t.client);
    await render(strict(h(p.Probe), h(p.Probe)));
    assert.deepEqual(types(t.socket()), ["join"]);
    await say(t.socket(), history([1]), message(2), message(2));
    assert.equal(container.textContent, "m1m2m1m2");
    await pass(10 * GRACE);
    await say(t.socket(), message(3));
    assert.deepEqual(types(t.socket()), ["join"]);
    assert.equal(container.textContent, "m1m2m3m1m2m3");
    await unmount();
    await pass(GRACE);
    assert.deepEqual(types(t.socket()), ["join", "leave"]);
    assert.deepEqual(errors, []);
    t.client.close();
  });

  test("gone and back within a second: no leave, and nothing was missed meanwhile", async () => {
    const t = await online();
    const { render, unmount } = root();
    const p = room(t.client);
    await render(strict(h(p.Probe)));
    await say(t.socket(), history([1]));
    for (let i = 2; i < 12; i++) {
      await render(strict());
      await say(t.socket(), message(i));
      await pass(GRACE - 1);
      await render(strict(h(p.Probe)));
    }
    assert.deepEqual(contents(p), range(1, 11).map((i) => `m${i}`));
    assert.deepEqual(types(t.socket()), ["join"]);
    await unmount();
    await pass(GRACE);
    t.client.close();
  });

  test("another view that shows the room has it at its first render", async () => {
    const t = await online();
    const { render, unmount } = root();
    const [a, b] = [room(t.client), room(t.client)];
    await render(strict(h(a.Probe)));
    await say(t.socket(), history([1]));
    await render(strict(h(a.Probe), h(b.Probe)));
    assert.equal(b.seen[0].messages, a.now().messages);
    await render(strict(h(b.Probe)));
    await pass(5 * GRACE);
    assert.deepEqual(types(t.socket()), ["join"]);
    await unmount();
    await pass(GRACE);
    t.client.close();
  });

  test("another name, and another client, is another room", async () => {
    const [t, u] = [await online(), await online()];
    const { render, unmount } = root();
    const p = probe(({ client, name }) => useRoom(client, name));
    const view = (client, name) => render(strict(h(p.Probe, { client, name })));
    await view(t.client, "a");
    await say(t.socket(), history([1], { room: "a" }));
    await view(t.client, "b");
    assert.deepEqual(p.now().messages, [], "nothing of the one before");
    await view(t.client, "a");
    assert.equal(p.now().messages.length, 1);
    await view(t.client, "b");
    await pass(GRACE);
    assert.deepEqual(t.socket().sent.map((m) => `${m.type} ${m.room}`), ["join a", "join b", "leave a"]);
    await view(u.client, "b");
    assert.deepEqual(types(u.socket()), ["join"]);
    await pass(GRACE);
    assert.equal(t.socket().last("leave").room, "b");
    await view(null, "b");
    assert.equal(p.now().room, undefined);
    await pass(GRACE);
    assert.deepEqual(types(u.socket()), ["join", "leave"]);
    await unmount();
    t.client.close();
    u.client.close();
  });

  test("the application ends the membership: the reason is the error, and who mounts later joins anew", async () => {
    const t = await online();
    const { render, unmount } = root();
    const p = room(t.client);
    await render(h(p.Probe));
    await say(t.socket(), history([1]), { type: "left", room: "r", reason: "this is for members" });
    assert.deepEqual(p.now().error, { code: "left", message: "this is for members", room: "r" });
    assert.deepEqual(contents(p), ["m1"]);
    await assert.rejects(p.now().send("x"), { code: "not_member" });
    await unmount();
    const again = root();
    await again.render(h(p.Probe));
    assert.equal(p.now().error, undefined);
    await say(t.socket(), history([1, 2]));
    assert.deepEqual(contents(p), ["m1", "m2"]);
    assert.deepEqual(types(t.socket()), ["join", "join"]);
    await again.unmount();
    await pass(GRACE);
    t.client.close();
  });

  test("a room that the application has joined before: its history is shown", async () => {
    const t = await online();
    await say(t.socket(), history([1]), message(2));
    const { render, unmount } = root();
    const p = room(t.client);
    await render(strict(h(p.Probe)));
    await say(t.socket(), history([1, 2]), message(3));
    assert.deepEqual(contents(p), ["m1", "m2", "m3"]);
    assert.deepEqual(types(t.socket()), ["join"]);
    await unmount();
    await pass(GRACE);
    assert.deepEqual(types(t.socket()), ["join", "leave"]);
    t.client.close();
  });

  test("rooms of any name (S32)", async () => {
    const t = await online();
    const { render, unmount } = root();
    const p = room(t.client, "__proto__");
    await render(strict(h(p.Probe)));
    await say(t.socket(), history([1], { room: "__proto__" }));
    assert.equal(p.now().messages.length, 1);
    await unmount();
    await pass(GRACE);
    t.client.close();
  });

  test("a refusal is told; who comes after all others have gone tries again", async () => {
    const t = await online();
    const { render, unmount } = root();
    const p = room(t.client);
    await render(strict(h(p.Probe, { key: 1 })));
    await say(t.socket(), { type: "error", id: t.socket().last("join").id, code: "forbidden", message: "no" });
    assert.equal(p.now().error.code, "forbidden");
    await render(strict(h(p.Probe, { key: 2 })));
    assert.deepEqual(types(t.socket()), ["join", "join"]);
    assert.equal(p.now().error, undefined);
    await say(t.socket(), history([1]));
    assert.equal(p.now().messages.length, 1);
    await pass(2 * GRACE);
    assert.deepEqual(types(t.socket()), ["join", "join"], "the timer of the first has nothing to leave");
    t.socket().drop();
    await act(() => reconnect(t));
    await say(t.socket(), { type: "error", id: t.socket().last("join").id, code: "forbidden", message: "no more" });
    assert.deepEqual([p.now().error.code, p.now().error.message], ["forbidden", "no more"]);
    assert.equal(p.now().messages.length, 1, "what was shown stays");
    await unmount();
    await pass(GRACE);
    t.client.close();
  });

  test("while others show a refused room, who comes shows the same", async () => {
    const t = await online();
    const { render, unmount } = root();
    const [a, b] = [room(t.client), room(t.client)];
    await render(strict(h(a.Probe)));
    await say(t.socket(), { type: "error", id: t.socket().last("join").id, code: "forbidden", message: "no" });
    await render(strict(h(a.Probe), h(b.Probe)));
    assert.equal(b.now().error, a.now().error);
    assert.deepEqual(types(t.socket()), ["join"]);
    await unmount();
    await pass(GRACE);
    t.client.close();
  });

  test("errors of others are not those of the room; and a room that is over listens no more", async () => {
    const t = await online();
    const listening = new Set();
    const { on } = t.client;
    t.client.on = (event, fn) => {
      const stop = on(event, fn);
      listening.add(stop);
      return () => {
        listening.delete(stop);
        stop();
      };
    };
    const { render, unmount } = root();
    const p = room(t.client);
    await render(h(p.Probe, { key: 0 }));
    await say(t.socket(), { type: "error", code: "internal", message: "it was logged" });
    t.client.join("other");
    await say(t.socket(), { type: "error", id: t.socket().last("join").id, code: "forbidden", message: "no" });
    assert.equal(p.now().error, undefined);
    for (let i = 1; i < 5; i++) {
      await say(t.socket(), { type: "error", id: t.socket().of("join").findLast((m) => m.room === "r").id, code: "forbidden", message: "no" });
      assert.equal(p.now().error.code, "forbidden");
      assert.equal(listening.size, 0);
      await render(h(p.Probe, { key: i }));
      assert.equal(listening.size, 1);
    }
    await unmount();
    await pass(GRACE);
    assert.equal(listening.size, 0);
    t.client.close();
  });

  test("the end of the client is told, too", async () => {
    const t = await online();
    const { render, unmount } = root();
    const p = room(t.client);
    await render(strict(h(p.Probe)));
    await act(async () => t.client.close());
    assert.equal(p.now().error.code, "closed");
    await unmount();
    await pass(GRACE);
  });

  test("over a reconnect: what was missed is added, a gap begins anew and says so", async () => {
    const t = await online();
    const { render, unmount } = root();
    const p = room(t.client);
    await render(strict(h(p.Probe)));
    await say(t.socket(), history([1, 2]));
    t.socket().drop();
    await act(() => reconnect(t));
    await say(t.socket(), history([3, 4], { recovered: true }));
    assert.deepEqual(contents(p), ["m1", "m2", "m3", "m4"]);
    assert.equal(p.now().gap, undefined);
    t.socket().drop();
    await act(() => reconnect(t));
    await say(t.socket(), history([8, 9], { recovered: false, code: "gone" }));
    assert.deepEqual(contents(p), ["m8", "m9"]);
    assert.deepEqual(p.now().gap, { epoch: "e", offset: 4, code: "gone" });
    assert.equal(p.now().more, true);
    await unmount();
    await pass(GRACE);
    t.client.close();
  });

  test("holds at most 1000, or what it is told", async () => {
    for (const [options, most] of [[undefined, 1000], [{ limit: 5 }, 5]]) {
      const t = await online();
      const { render, unmount } = root();
      const p = room(t.client, "r", options);
      await render(h(p.Probe));
      await say(t.socket(), history(range(1, 10)));
      assert.equal(p.now().messages.length, Math.min(10, most));
      assert.equal(p.now().more, most < 10);
      await say(t.socket(), ...range(11, 1010).map((o) => message(o)));
      assert.deepEqual(p.now().messages.map((m) => m.offset), range(1011 - most, 1010));
      assert.equal(p.now().more, true);
      await unmount();
      await pass(GRACE);
      t.client.close();
    }
  });

  test("older() puts a page in front, and live ones do not push it out", async () => {
    const t = await online();
    const { render, unmount } = root();
    const p = room(t.client, "r", { limit: 3 });
    await render(strict(h(p.Probe)));
    const s = t.socket();
    await say(s, history(range(98, 100)));
    assert.equal(p.now().more, true);
    const answers = [p.now().older(), p.now().older()];
    await settled();
    const asked = s.of("history");
    assert.deepEqual({ ...asked[0], id: 0 }, { type: "history", room: "r", before: 98, limit: 50, id: 0 });
    const page = (id, from, to, more) => ({ ...history(range(from, to)), id, offset: 100, more });
    await say(s, page(asked[0].id, 48, 97, true), page(asked[1].id, 48, 97, true));
    await Promise.all(answers);
    assert.deepEqual(p.now().messages.map((m) => m.offset), range(48, 100), "once");
    await say(s, message(101));
    assert.deepEqual(p.now().messages.map((m) => m.offset), range(49, 101));
    await act(async () => {
      const last = p.now().older();
      await settled();
      s.say(page(s.last("history").id, 1, 48, false));
      await last;
    });
    assert.equal(p.now().messages[0].offset, 1);
    assert.equal(p.now().more, false);
    await say(s, history([200], { recovered: false, code: "gone" }));
    assert.deepEqual(p.now().messages.map((m) => m.offset), [200]);
    await say(s, ...range(201, 204).map((o) => message(o)));
    assert.deepEqual(p.now().messages.map((m) => m.offset), range(202, 204), "the limit holds again");
    await unmount();
    await pass(GRACE);
    t.client.close();
  });

  test("a page that comes after the list has begun anew is not put in front of it", async () => {
    const t = await online();
    const { render, unmount } = root();
    const p = room(t.client);
    await render(strict(h(p.Probe)));
    await say(t.socket(), history([50]));
    const older = p.now().older();
    await settled();
    const { id } = t.socket().last("history");
    await say(t.socket(), history([1], { epoch: "f", recovered: false, code: "reset", messages: [message(1, { epoch: "f" })] }));
    await say(t.socket(), { ...history([48, 49]), id, more: true });
    await older;
    assert.deepEqual(p.now().messages.map((m) => m.epoch), ["f"]);
    await unmount();
    await pass(GRACE);
    t.client.close();
  });

  test("send: always the same function, also in an effect of a child, and rejects as room.send does", async () => {
    const t = await online();
    const { render, unmount } = root();
    const acks = [];
    const Child = ({ send }) => {
      useEffect(() => {
        send("hello").then((a) => acks.push(a.offset));
      }, [send]);
      return null;
    };
    const p = probe(() => useRoom(t.client, "r"));
    const Parent = () => {
      const { send } = useRoom(t.client, "r");
      return h(Child, { send });
    };
    await render(h("div", null, h(Parent), h(p.Probe)));
    assert.deepEqual(types(t.socket()), ["join"]);
    await say(t.socket(), history([]));
    assert.deepEqual(types(t.socket()), ["join", "message"]);
    await say(t.socket(), { type: "ack", id: t.socket().last("message").id, epoch: "e", offset: 1 }, message(1));
    assert.deepEqual(acks, [1]);
    assert.equal(new Set(p.seen.map((v) => v.send)).size, 1);
    assert.equal(new Set(p.seen.map((v) => v.older)).size, 1);
    const refused = assert.rejects(p.now().send("x"), { code: "forbidden" });
    await settled();
    await say(t.socket(), { type: "error", id: t.socket().last("message").id, code: "forbidden", message: "no" });
    await refused;
    await pass(5 * GRACE);
    assert.equal(t.socket().of("leave").length, 0);
    await unmount();
    await pass(GRACE);
    assert.equal(t.socket().of("leave").length, 1);
    t.client.close();
  });

  test("what has not changed is the same object: no render without a reason", async () => {
    const t = await online();
    const { render, unmount } = root();
    const p = room(t.client);
    await render(h(p.Probe));
    await say(t.socket(), history([1]));
    const n = p.seen.length;
    const { messages } = p.now();
    await say(t.socket(), { type: "system", room: "r", content: "x" }, { type: "presence", room: "r", count: 1 }, { type: "notification", data: 1 });
    assert.equal(p.seen.length, n);
    await render(h(p.Probe));
    assert.equal(p.now().messages, messages);
    await unmount();
    await pass(GRACE);
    t.client.close();
  });

  test("many messages in one go are one render", async () => {
    const t = await online();
    const { render, unmount } = root();
    const p = room(t.client);
    await render(h(p.Probe));
    await say(t.socket(), history([]));
    const n = p.seen.length;
    await say(t.socket(), ...range(1, 200).map((o) => message(o)));
    assert.equal(p.seen.length, n + 1);
    assert.equal(p.now().messages.length, 200);
    await unmount();
    await pass(GRACE);
    t.client.close();
  });

  test("mounted and unmounted at random: joined exactly while somebody is there", async () => {
    const t = await online();
    const s = t.socket();
    const { render, unmount } = root();
    const names = ["a", "b", "c"];
    const p = probe(({ name }) => useRoom(t.client, name));
    const seed = [7, 3, 5, 0, 1, 7, 7, 2, 6, 4, 0, 0, 5, 1, 3, 6, 2, 2, 7, 0];
    const joined = new Set();
    let taken = 0;
    const serve = async () => {
      for (; taken < s.sent.length; taken++) {
        const { type, room: name, id } = s.sent[taken];
        joined[type === "join" ? "add" : "delete"](name);
        await say(s, ...(type === "join" ? [history([], { room: name })] : []), { type: "ack", id });
      }
    };
    for (const [i, mask] of seed.entries()) {
      await render(strict(...names.filter((_, bit) => mask & (1 << bit)).map((name) => h(p.Probe, { key: name, name }))));
      await serve();
      if (i % 3) await pass(GRACE * (i % 3));
      await serve();
      for (const [bit, name] of names.entries()) if (mask & (1 << bit)) assert.ok(joined.has(name), `${name} at ${i}`);
      if (i % 3) assert.deepEqual([...joined].sort(), names.filter((_, bit) => mask & (1 << bit)), `at ${i}`);
    }
    await unmount();
    await pass(GRACE);
    await serve();
    assert.equal(joined.size, 0);
    t.client.close();
  });
});
