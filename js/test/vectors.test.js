// The vectors that the Go server is tested with (testdata/protocol): what it writes, this client reads, and what this
// client writes, it reads.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { afterEach, beforeEach, describe, test } from "node:test";
import { ROOM_EVENTS, fakeTime, online, reconnect, record, start } from "./harness.js";

fakeTime({ beforeEach, afterEach });

const folder = new URL("../../testdata/protocol/", import.meta.url);
const vectors = (name) => JSON.parse(readFileSync(new URL(name, folder)));
const server = vectors("server.json");

test("no file of vectors is left out", () => {
  assert.deepEqual(readdirSync(folder).filter((f) => f.endsWith(".json")).sort(), ["client.json", "handshake.json", "server.json"]);
});

test("there are vectors of every type that the client reads", () => {
  assert.deepEqual([...new Set(server.map((v) => v.meaning.type))].sort(), [
    "ack", "broadcast", "bye", "connected", "error", "expired", "history", "inbox", "left", "marked", "message", "notification", "pong", "presence",
    "private", "reply", "signal", "system",
  ]);
});

/** Sends the request that a message of this type answers, and gives the promise. */
const requests = {
  ack: (client) => client.private("u2", "x"),
  error: (client) => client.private("u2", "x"),
  reply: (client) => client.call("m"),
  pong: (client) => client.ping(),
  history: (client, room) => room.history(),
  inbox: (client) => client.request({ type: "history", topic: "inbox" }, "inbox"),
};

/** The events that a history or inbox leads to, for a client that is at `log`; undefined: at none. */
function replayed(meaning, log, tag) {
  const { messages: all, recovered, code, type, room, ...at } = meaning;
  const messages = all.filter((m) => m.type !== "expired"); // P8.7
  if (recovered) return [...messages.map((m) => [m.type, m]), ["recovered", { ...tag, ...at, missed: messages.length }]];
  const list = tag.topic === "broadcast" ? [] : [[type, { ...at, messages }]];
  return log ? [["gap", { ...tag, ...log, code }], ...list] : list;
}

describe("server.json", () => {
  for (const { name, rule, message, meaning } of server) {
    test(`${rule}: ${name}`, async () => {
      const { type, id, room: roomName = "lobby", recovered, clientId } = meaning;
      if (type === "connected") {
        const t = await start();
        t.socket().readyState = 1;
        t.socket().raw(message);
        const { userId, username, resumed, session, epoch, offset } = meaning;
        assert.deepEqual(t.events.at(-1), ["connected", { clientId, userId, username, resumed }]);
        t.socket().drop();
        const { protocols } = await reconnect(t);
        const entry = epoch && `parley.broadcast.${offset}.${Buffer.from(epoch).toString("base64url")}`;
        assert.deepEqual(protocols.slice(1), [session && `parley.session.${session}`, entry].filter(Boolean));
        t.client.close();
        return;
      }
      // Everywhere at a position just before that of the vector; at none where the vector has none, or is the first.
      const before = recovered === undefined ? 1 : meaning.messages.length;
      const told = type === "history" || type === "inbox";
      const log = meaning.epoch !== undefined && (!told || recovered !== undefined) && id === undefined
        ? { epoch: "e1", offset: Math.max(0, meaning.offset - before) } : undefined;
      const all = type === "broadcast" || (told && meaning.room === undefined);
      const t = await online({}, { clientId: "me", ...(all && log) });
      const s = t.socket();
      const room = t.client.join(roomName);
      if (log && !all) s.say({ type: "history", room: roomName, messages: [], ...log });
      if (log && type !== "broadcast") s.say({ type: "inbox", messages: [], ...log });
      if (!log && !told) s.say({ type: "history", room: roomName, messages: [] });
      if (id !== undefined && type === "history") s.say({ type: "history", room: roomName, messages: [] });
      const events = record(room, ROOM_EVENTS);
      t.events.length = 0;

      if (id !== undefined && requests[type]) {
        const answer = requests[type](t.client, room);
        s.raw(message.replace(`"id":${JSON.stringify(id)}`, `"id":${JSON.stringify(s.sent.at(-1).id)}`));
        const { type: _, id: __, ...rest } = meaning;
        if (type === "error") await assert.rejects(answer, { code: meaning.code, message: meaning.message });
        else if (type === "reply") assert.deepEqual(await answer, meaning.data);
        else if (type === "pong") assert.equal((await answer).timestamp, meaning.timestamp);
        else assert.deepEqual(await answer, rest);
        assert.deepEqual([...events, ...t.events], []);
      } else {
        s.raw(message);
        const seen = [...events, ...t.events].filter(([e]) => e !== "unread");
        const { id, ...others } = meaning;
        const rest = type === "notification" ? meaning : others; // there it is a name
        if (type === "history" && meaning.room !== undefined) assert.deepEqual(seen, replayed(meaning, log, {}));
        else if (told) assert.deepEqual(seen, replayed(meaning, log, { topic: type === "inbox" ? "inbox" : "broadcast" }));
        else if (meaning.code === "bad_session" || type === "expired") assert.deepEqual(seen, []);
        else if (type === "error") assert.deepEqual(seen, [["error", { code: meaning.code, message: meaning.message, room: undefined }]]);
        else assert.deepEqual(seen, [[type, rest]]);
      }
      if (type !== "error") assert.ok(!t.events.some(([e]) => e === "error"));
      t.client.close();
    });
  }
});

describe("handshake.json", () => {
  for (const { name, rule, protocols, state, server: forServers } of vectors("handshake.json")) {
    if (forServers) continue; // what no client may offer
    test(`${rule}: ${name}`, async () => {
      const { token, session, inbox, broadcast } = state;
      const t = await online({ token }, { session, ...broadcast });
      if (inbox) t.socket().say({ type: "inbox", messages: [], ...inbox });
      t.socket().drop();
      assert.deepEqual((await reconnect(t)).protocols, protocols);
      t.client.close();
    });
  }
});

describe("client.json", () => {
  test("what this client sends is what a server has to accept", async () => {
    const known = vectors("client.json");
    const keys = new Set(known.filter((v) => v.ok).flatMap((v) => Object.keys(v.decoded)));
    const types = new Set(known.filter((v) => v.ok).map((v) => v.decoded.type));
    const t = await online();
    const room = t.client.join("r", { username: "kim", since: { epoch: "e", offset: 1 } });
    t.socket().say({ type: "history", room: "r", messages: [], epoch: "e", offset: 1 });
    for (const p of [
      room.send(1), room.history({ before: 3, limit: 4 }), t.client.private("u", 1), t.client.broadcast(1), t.client.call("m", 1), t.client.ping(),
    ]) p.catch(() => {});
    room.signal("n", 1);
    t.client.signal("u", "n", 1);
    room.leave();
    const { sent } = t.socket();
    assert.equal(sent.length, 10);
    for (const m of sent) {
      assert.ok(types.has(m.type), m.type);
      for (const key of Object.keys(m)) assert.ok(keys.has(key), `${m.type}: ${key}`);
    }
    t.client.close();
  });

  test("ids, rooms and names that the vectors refuse are refused by the server, not sent as something else", async () => {
    const t = await online();
    for (const name of ["", "a\u0000b", "x".repeat(256), "\u009f"]) {
      const room = t.client.join(name);
      assert.equal(t.socket().last("join").room, name);
      t.socket().say({ type: "error", id: t.socket().last("join").id, code: "bad_request", message: "no" });
      await assert.rejects(room.joined, { code: "bad_request" });
    }
    t.client.close();
  });
});
