// The vectors that the Go server is tested with: what it writes, this client reads.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, test } from "node:test";
import { ROOM_EVENTS, fakeTime, online, record, start } from "./harness.js";

fakeTime({ beforeEach, afterEach });

const vectors = JSON.parse(readFileSync(new URL("../../testdata/protocol/server.json", import.meta.url)));

test("there are vectors of every type that the client reads", () => {
  assert.deepEqual([...new Set(vectors.map((v) => v.meaning.type))].sort(), [
    "ack", "broadcast", "bye", "connected", "error", "history", "inbox", "message", "notification", "pong", "presence",
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
};

for (const { name, rule, message, meaning } of vectors) {
  test(`${rule}: ${name}`, async () => {
    const { type, id, room: roomName = "lobby" } = meaning;
    if (type === "connected") {
      const t = await start();
      t.socket().readyState = 1;
      t.socket().raw(message);
      assert.equal(t.client.state, "connected");
      const { clientId, userId, username } = meaning;
      assert.deepEqual(t.events.at(-1), ["connected", { clientId, userId, username }]);
      t.client.close();
      return;
    }
    const t = await online();
    const s = t.socket();
    const room = t.client.join(roomName);
    // In the room, at a position before that of any vector; without one where the vector has none.
    const log = type === "message" && meaning.epoch === undefined ? {} : { epoch: "e1", offset: Math.max(0, (meaning.offset ?? 1) - 1) };
    if (meaning.recovered === true) log.offset = meaning.offset - meaning.messages.length;
    if (type !== "history" || id !== undefined || meaning.recovered !== undefined) {
      s.say({ type: "history", room: roomName, messages: [], ...log });
    }
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
      const seen = [...events, ...t.events];
      if (type === "history") {
        const { epoch, offset, messages } = meaning;
        const all = { epoch, offset, messages };
        const gap = ["gap", { epoch: "e1", offset: log.offset }];
        const recovered = ["recovered", { epoch, offset, missed: messages.length }];
        if (meaning.recovered) assert.deepEqual(seen, [...messages.map((m) => ["message", m]), recovered]);
        else assert.deepEqual(seen, meaning.recovered === false ? [gap, ["history", all]] : [["history", all]]);
      } else if (type === "inbox") {
        const { type: _, ...rest } = meaning;
        assert.deepEqual(seen, [["inbox", rest]]);
      } else if (type === "error") {
        assert.deepEqual(seen, [["error", { code: meaning.code, message: meaning.message, room: undefined }]]);
      } else {
        const { id: _, ...rest } = meaning;
        assert.deepEqual(seen, [[type, rest]]);
      }
    }
    if (type !== "error") assert.ok(!t.events.some(([e]) => e === "error"));
    t.client.close();
  });
}
