// The other hooks, and all of them on a server.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { GRACE, act, h, hydrateRoot, pass, probe, root, say, strict, types } from "./dom.js";
import { useEffect } from "react";
import { renderToString } from "react-dom/server";
import { useConnectionState, usePresence, useRoom } from "@parley-go/client/react";
import { useNotifications } from "@parley-go/client/react-inbox";
import { fakeTime, history, message, nextAttempt, online, start } from "./harness.js";

fakeTime({ beforeEach, afterEach });

describe("usePresence", () => {
  const [a, b] = ["a", "b"].map((id) => ({ userId: id, username: id.toUpperCase() }));
  const presence = (more) => ({ type: "presence", room: "r", ...more });

  test("of a room of useRoom, and of a room by name, which it joins", async () => {
    const t = await online();
    const { render, unmount } = root();
    const inner = probe(({ room: r }) => usePresence(r));
    const named = probe(() => usePresence(t.client, "r"));
    const Outer = () => h(inner.Probe, { room: useRoom(t.client, "r").room });
    await render(strict(h(Outer)));
    assert.deepEqual(inner.seen[0], { members: [], count: 0 });
    await say(t.socket(), history([]), presence({ members: [a], count: 1 }));
    assert.deepEqual(inner.now(), { members: [a], count: 1 });
    await render(strict(h(Outer), h(named.Probe)));
    assert.deepEqual(named.seen[0], { members: [a], count: 1 });
    await say(t.socket(), presence({ joined: [b], count: 2 }));
    for (const p of [inner, named]) assert.deepEqual(p.now(), { members: [a, b], count: 2 });
    const { members } = inner.now();
    await say(t.socket(), message(1));
    assert.equal(inner.now().members, members);
    await render(strict(h(named.Probe)));
    await pass(GRACE);
    assert.deepEqual(types(t.socket()), ["join"], "it is enough to hold the room");
    await say(t.socket(), presence({ count: 5000 }));
    assert.equal(named.now().count, 5000);
    await unmount();
    await pass(GRACE);
    assert.deepEqual(types(t.socket()), ["join", "leave"]);
    t.client.close();
  });

  test("of nothing", async () => {
    const { render, unmount } = root();
    for (const args of [[undefined], [null], [null, "r"]]) {
      const p = probe(() => usePresence(...args));
      await render(strict(h(p.Probe)));
      assert.deepEqual(p.now(), { members: [], count: 0 });
    }
    await unmount();
  });
});

describe("useNotifications", () => {
  const note = (offset) => ({ type: "notification", data: offset, timestamp: 1, epoch: "i", offset, unread: offset, version: offset });
  const list = (...messages) => ({ type: "inbox", epoch: "i", offset: messages.length, unread: messages.length, version: messages.length, messages });
  const shown = ({ items, unread }) => [unread, items.map((i) => `${i.data} ${i.state}`)];

  test("all components share one inbox, which is loaded once, in StrictMode too", async () => {
    const t = await online();
    t.socket().say(list(note(1), note(2)));
    const { render, unmount } = root();
    const [bell, page] = [probe(() => useNotifications(t.client)), probe(() => useNotifications(t.client))];
    await render(strict(h(bell.Probe), h(page.Probe)));
    assert.deepEqual(bell.seen[0].items, []);
    assert.deepEqual(types(t.socket()), ["history"]);
    await say(t.socket(), { ...list(note(1), note(2)), id: t.socket().sent[0].id, more: false }, note(3));
    for (const p of [bell, page]) assert.deepEqual(shown(p.now()), [3, ["3 unread", "2 unread", "1 unread"]]);

    let marking;
    await act(async () => {
      marking = bell.now().markRead(bell.now().items[0]);
    });
    assert.deepEqual(t.socket().last("read").offsets, [3]);
    const { items } = page.now();
    await say(t.socket(), { type: "marked", as: "read", epoch: "i", offsets: [[3, 3]], unread: 2, version: 4 }, { type: "ack", id: t.socket().last("read").id, epoch: "i", unread: 2, version: 4 });
    await marking;
    for (const p of [bell, page]) assert.deepEqual(shown(p.now()), [2, ["3 read", "2 unread", "1 unread"]]);
    assert.equal(page.now().items[1], items[1]);
    for (const name of ["markRead", "markUnread", "archive", "more"]) assert.equal(new Set(bell.seen.map((v) => v[name])).size, 1, name);

    await render(null);
    await pass(GRACE - 1);
    await render(strict(h(bell.Probe)));
    assert.equal(t.socket().of("history").length, 1, "not closed between two views");
    await unmount();
    await pass(GRACE);
    const renders = bell.seen.length;
    await say(t.socket(), note(4));
    assert.equal(bell.seen.length, renders);
    const again = root();
    await again.render(strict(h(bell.Probe)));
    assert.equal(t.socket().of("history").length, 2, "closed, and loaded anew");
    await again.unmount();
    await pass(GRACE);
    t.client.close();
  });

  test("an effect may mark at once, and pages are loaded", async () => {
    const t = await online();
    const { render, unmount } = root();
    const p = probe(() => useNotifications(t.client));
    const Early = () => {
      const { archive } = useNotifications(t.client);
      useEffect(() => void archive({ ids: ["a"] }).catch(() => {}), [archive]);
      return null;
    };
    await render(h(Early));
    assert.deepEqual(t.socket().last("archive").ids, ["a"]);
    await render(h(p.Probe));
    await say(t.socket(), { ...list(note(2)), offset: 2, id: t.socket().last("history").id, more: true });
    assert.equal(p.now().hasMore, true);
    let paging;
    await act(async () => {
      paging = p.now().more();
    });
    await say(t.socket(), { ...list(note(1)), offset: 2, id: t.socket().last("history").id, more: false });
    assert.equal(await paging, false);
    assert.deepEqual([p.now().items.length, p.now().hasMore], [2, false]);
    await unmount();
    await pass(GRACE);
    t.client.close();
  });

  test("of nobody", async () => {
    const { render, unmount } = root();
    const p = probe(() => useNotifications(undefined));
    await render(strict(h(p.Probe)));
    const { markRead, markUnread, archive, more, ...state } = p.now();
    assert.deepEqual(state, { items: [], unread: 0, truncated: undefined, hasMore: false });
    for (const does of [markRead, markUnread, archive, more]) assert.equal(await does(), undefined);
    await unmount();
  });
});

describe("useConnectionState", () => {
  test("follows the client, to the end", async () => {
    const t = await start();
    const { render, unmount } = root();
    const p = probe(() => ({ state: useConnectionState(t.client) }));
    await render(strict(h(p.Probe)));
    await act(async () => t.socket().accept());
    await act(async () => t.socket().drop());
    await act(() => nextAttempt(t));
    await act(async () => t.socket().accept());
    await act(async () => t.socket().drop(4100));
    const changes = p.seen.map((v) => v.state).filter((state, i, all) => state !== all[i - 1]);
    assert.deepEqual(changes, ["connecting", "connected", "waiting", "connecting", "connected", "unauthorized"]);
    await unmount();
  });

  test("another client, another state", async () => {
    const [t, u] = [await online(), await start()];
    const { render, unmount } = root();
    const p = probe(({ client }) => ({ state: useConnectionState(client) }));
    for (const [client, state] of [[t.client, "connected"], [u.client, "connecting"], [null, "connecting"], [t.client, "connected"]]) {
      await render(strict(h(p.Probe, { client })));
      assert.equal(p.now().state, state);
    }
    await unmount();
    t.client.close();
    u.client.close();
  });
});

describe("on a server", () => {
  function Page({ client }) {
    const { messages, more, error } = useRoom(client, "r");
    const { count } = usePresence(client, "r");
    const { unread } = useNotifications(client);
    const state = useConnectionState(client);
    return h("main", null, [state, messages.length, more, count, unread, !!error].join(" "));
  }

  test("renders what there is before a connection, with and without a client, and nothing is joined", async () => {
    const t = await online();
    for (const client of [t.client, null]) {
      assert.equal(renderToString(h(Page, { client })), "<main>connecting 0 false 0 0 false</main>");
    }
    assert.equal(t.socket().sent.length, 0);
    t.client.close();
  });

  test("the page takes it over as it is, and goes on", async () => {
    const t = await online();
    const container = document.createElement("div");
    container.innerHTML = renderToString(h(Page, { client: null }));
    const errors = [];
    let made;
    await act(() => {
      made = hydrateRoot(container, strict(h(Page, { client: t.client })), { onRecoverableError: (e) => errors.push(e) });
    });
    await say(t.socket(), history([1]), { type: "presence", room: "r", members: [], count: 3 }, { type: "inbox", messages: [], epoch: "i", offset: 1, unread: 1, version: 1 });
    assert.equal(container.textContent, "connected 1 false 3 1 false");
    assert.deepEqual(errors, []);
    await act(() => made.unmount());
    await pass(GRACE);
    t.client.close();
  });

  test("also a part of it that is taken over later than others that show the same", async () => {
    const t = await online();
    const first = root();
    await first.render(strict(h(Page, { client: t.client })));
    await say(t.socket(), history([1]), { type: "presence", room: "r", members: [], count: 3 });
    const container = document.createElement("div");
    container.innerHTML = renderToString(h(Page, { client: null }));
    const errors = [];
    let made;
    await act(() => {
      made = hydrateRoot(container, strict(h(Page, { client: t.client })), { onRecoverableError: (e) => errors.push(e) });
    });
    assert.equal(container.textContent, first.container.textContent);
    assert.deepEqual(errors, []);
    await act(() => made.unmount());
    await first.unmount();
    await pass(GRACE);
    t.client.close();
  });
});
