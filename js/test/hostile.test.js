// Whatever the server sends, the client goes on, and no object of the page changes.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import fc from "fast-check";
import { ROOM_EVENTS, fakeTime, history, message, online, record, settled, tick } from "./harness.js";

fakeTime({ beforeEach, afterEach });

const TYPES = [
  "connected", "broadcast", "private", "notification", "inbox", "message", "history", "system", "presence", "signal",
  "ack", "reply", "pong", "error", "bye", "left", "new-type", "__proto__", "constructor", "toString",
];
const FIELDS = [
  "id", "room", "userId", "clientId", "username", "senderId", "content", "message", "messages", "data", "timestamp",
  "epoch", "offset", "recovered", "more", "duplicate", "members", "joined", "left", "count", "name", "code", "reason",
  "retryMin", "retryMax", "maxMessageSize", "pingInterval", "session", "resumed", "__proto__", "constructor", "prototype",
];
const NAMES = ["r", "__proto__", "constructor", "prototype", "toString", "hasOwnProperty", ""];

/** JSON text of an object whose keys may be "__proto__", as JSON.stringify of a literal would not write it. */
const object = (entries) => `{${entries.map(([k, v]) => `${JSON.stringify(k)}:${v}`).join(",")}}`;
const dirty = fc.oneof(
  fc.jsonValue().map((v) => JSON.stringify(v)),
  fc.constantFrom(...NAMES).map((v) => JSON.stringify(v)),
  fc.constantFrom("-1", "1", "2", "3", "1.5", "1e400", "9007199254740993", "null", '"e"'),
  fc.constantFrom(
    '{"__proto__":{"polluted":1}}', '[{"__proto__":{"polluted":1}}]', '{"constructor":{"prototype":{"polluted":1}}}',
    '[{"userId":"__proto__","username":"x","more":1}]', '[{"userId":"toString","username":{"toString":null}}]', '[[[[[]]]]]',
  ),
);
const envelope = (types, inner) =>
  fc
    .tuple(fc.constantFrom(...types), fc.array(fc.tuple(fc.constantFrom(...FIELDS), inner), { maxLength: 8 }))
    .map(([type, entries]) => object([["type", JSON.stringify(type)], ...entries]));
const entry = envelope(["message", "private", "notification", "history", "x"], dirty);
const anything = fc.oneof(
  { weight: 6, arbitrary: envelope(TYPES, fc.oneof(dirty, fc.array(fc.oneof(entry, dirty), { maxLength: 4 }).map((a) => `[${a}]`))) },
  { weight: 2, arbitrary: fc.string() },
  { weight: 2, arbitrary: fc.jsonValue().map((v) => JSON.stringify(v)) },
  { weight: 1, arbitrary: fc.constantFrom(undefined, null, 7, new ArrayBuffer(4), "[".repeat(100_000), '{"type":"x","a":'.repeat(50_000)) },
);

/** Own property names of everything that pollution would reach. */
const prototypes = () =>
  [Object, Array, Function, String, Number, Map, Set, Promise, Error].flatMap((c) => [
    ...Reflect.ownKeys(c.prototype), ...Reflect.ownKeys(c),
  ]);

/** The kind of every field of a payload that parley.d.ts promises. */
function checkPayload(event, p) {
  const s = (v) => typeof v === "string";
  const n = (v) => Number.isSafeInteger(v) && v >= 0;
  const kinds = { room: s, userId: s, username: s, senderId: s, epoch: s, offset: n, timestamp: n, count: n, code: (v) => s(v) || n(v), reason: s, retryMin: n, retryMax: n, missed: n, topic: s };
  if (event !== "signal" && event !== "error") delete kinds.name;
  for (const [key, ok] of Object.entries(kinds)) {
    if (Object.hasOwn(p, key) && p[key] !== undefined) assert.ok(ok(p[key]), `${event}: ${key} is ${JSON.stringify(p[key])}`);
  }
  assert.equal(Object.getPrototypeOf(p), Object.prototype);
  for (const m of p.messages ?? []) {
    assert.ok(["message", "private", "notification", "broadcast"].includes(m.type));
    checkPayload(m.type, m);
  }
  for (const m of [...(p.members ?? []), ...(p.joined ?? []), ...(p.left ?? [])]) {
    assert.ok(s(m.userId) && s(m.username));
    assert.deepEqual(Reflect.ownKeys(m).sort(), ["userId", "username"]);
  }
}

describe("hostile messages", () => {
  test("never throw, never pollute, and payloads keep their types (S32, S33)", async () => {
    const before = prototypes();
    await fc.assert(
      fc.asyncProperty(fc.array(anything, { maxLength: 30, size: "max" }), async (texts) => {
        const t = await online();
        const rooms = NAMES.slice(0, 4).map((name) => t.client.join(name));
        const recorded = rooms.map((room) => record(room, ROOM_EVENTS));
        t.socket().say(history([1, 2]));
        const asked = [t.client.call("x"), rooms[0].send("x"), rooms[0].history(), t.client.ping()];
        for (const p of asked) p.catch(() => {});
        const { sent } = t.socket();
        for (const text of texts) {
          // Ids of requests are secrets of the client; a hostile server knows them.
          const known = typeof text === "string" ? text.replace('"id":null', `"id":${JSON.stringify(sent.at(-1).id)}`) : text;
          assert.doesNotThrow(() => t.socket().raw(known));
        }
        await settled();
        for (const [event, p] of [...t.events, ...recorded.flat()]) {
          if (event === "joined") assert.equal(typeof p.name, "string"); // a Room
          else checkPayload(event, p);
        }
        assert.equal({}.polluted, undefined);
        assert.equal([].polluted, undefined);
        assert.deepEqual(prototypes(), before);
        // It still works.
        const n = t.events.length;
        t.socket().say({ type: "notification", data: "still there" });
        if (t.client.state === "connected") assert.equal(t.events[n]?.[1].data, "still there");
        // And it comes back: what was taken from the server fits into a handshake.
        t.socket().drop();
        await tick(20_000);
        if (t.client.state !== "closed") for (const p of t.socket().protocols) assert.match(p, /^[\w.-]+$/);
        t.client.close();
      }),
      { numRuns: 400 },
    );
  });

  test("malformed ones are errors, unknown types and keys are not (P1.6)", async () => {
    const t = await online();
    const room = t.client.join("r");
    const events = record(room, ROOM_EVENTS);
    t.socket().say(history([1]));
    const count = () => t.events.filter(([e, p]) => e === "error" && p.code === "bad_message").length;
    const malformed = [
      "", "{", "null", "7", '"x"', "[]", "{}", '{"type":7}', '{"type":["message"]}', new ArrayBuffer(2),
      JSON.stringify(message(2, { offset: "2" })), JSON.stringify(message(2, { offset: -1 })),
      JSON.stringify(message(2, { offset: 2.5 })), JSON.stringify(message(2, { offset: 2 ** 53 })),
      JSON.stringify(message(2, { room: 7 })), JSON.stringify(message(2, { userId: null })),
      JSON.stringify(message(2, { username: { toString: "x" } })), JSON.stringify(message(2, { epoch: {} })),
      '{"type":"history","room":"r"}', '{"type":"history","room":"r","messages":{}}', '{"type":"ack"}', '{"type":"error"}',
      '{"type":"presence","room":"r","count":"1"}', '{"type":"presence","room":"r","count":1,"members":[{"userId":1,"username":"x"}]}',
      '{"type":"presence","room":"r","count":1,"joined":{"length":1}}', '{"type":"bye","code":4000}', '{"type":"signal","senderId":"u"}',
      '{"type":"left","room":"r"}', '{"type":"left","room":"r","reason":null}',
      '{"type":"broadcast","message":1}', '{"type":"private","message":1}', '{"type":"inbox","messages":"x"}',
      '{"type":"inbox","messages":[],"read":[1]}', '{"type":"inbox","messages":[],"archived":{}}', '{"type":"inbox","messages":[],"read":[[1,"2"]]}',
      '{"type":"inbox","messages":[],"truncated":-1}', '{"type":"marked","as":"read"}', '{"type":"marked","as":1,"offsets":[]}',
      '{"type":"marked","as":"read","offsets":[[1,null]]}', '{"type":"notification","data":1,"id":7}', '{"type":"notification","data":1,"kind":null}',
      '{"type":"notification","data":1,"unread":"3"}', '{"type":"private","senderId":"u","message":1,"version":1.5}', '{"type":"connected","clientId":"c","receipts":1}',
    ];
    malformed.forEach((text, i) => {
      t.socket().raw(text);
      assert.equal(count(), i + 1, String(text));
    });
    const fine = [
      '{"type":"unknown","room":7}', '{"type":"__proto__"}', '{"type":"constructor"}',
      JSON.stringify(message(2, { newKey: { a: 1 } })), '{"type":"signal","room":"r","senderId":"u","name":"n","data":null,"x":1}',
    ];
    for (const text of fine) t.socket().raw(text);
    assert.equal(count(), malformed.length);
    assert.deepEqual(events.slice(1).map(([e, p]) => [e, Object.keys(p).includes("newKey")]), [["message", false], ["signal", false]]);
    assert.equal(t.socket().of("join").length, 1);
    t.client.close();
  });

  test("a malformed entry is left out and told; the others are delivered", async () => {
    const t = await online();
    const room = t.client.join("r");
    const events = record(room, ROOM_EVENTS);
    t.socket().say(history([1]), message(5));
    const h = history([2, 3, 4, 5], { recovered: true });
    h.messages[1].username = 7;
    h.messages[2].type = "poll"; // of a later protocol: not an error
    t.socket().say(h);
    assert.deepEqual(events.map(([e, p]) => (e === "message" ? p.offset : e)), ["history", 2, 5, "recovered"]);
    assert.equal(t.events.filter(([e]) => e === "error").length, 1);
    t.client.close();
  });

  test("entries of a type that does not belong there are left out", async () => {
    const t = await online();
    const room = t.client.join("r");
    const events = record(room, ROOM_EVENTS);
    const note = { type: "notification", data: 1, epoch: "e", offset: 2 };
    t.socket().say({ ...history([1]), offset: 2, messages: [message(1), note] });
    t.socket().say({ type: "inbox", epoch: "e", offset: 2, messages: [message(1), note] });
    assert.deepEqual(events[0][1].messages, [message(1)]);
    assert.deepEqual(t.events.at(-1)[1].messages, [note]);
    const page = room.history();
    t.socket().say({ ...history([]), id: t.socket().last("history").id, more: false, messages: [note, message(1)] });
    assert.deepEqual((await page).messages, [message(1)]);
    t.client.close();
  });

  test("rooms and users may have any name (S32)", async () => {
    for (const name of NAMES) {
      const t = await online();
      const room = t.client.join(name, { username: "__proto__" });
      const events = record(room, ROOM_EVENTS);
      assert.equal(t.client.join(name), room);
      assert.equal(t.socket().last("join").room, name);
      t.socket().say({ ...history([]), room: name }, message(1, { room: name, userId: "__proto__", username: "constructor" }));
      t.socket().say({ type: "presence", room: name, members: NAMES.map((n) => ({ userId: n, username: n })), count: NAMES.length });
      await room.joined;
      assert.equal(events[1][1].userId, "__proto__");
      assert.equal(room.members.size, NAMES.length);
      assert.deepEqual(room.members.get("__proto__"), { userId: "__proto__", username: "__proto__" });
      t.socket().say({ type: "presence", room: name, left: [{ userId: "__proto__", username: "" }], count: 1 });
      assert.equal(room.members.has("__proto__"), false);
      room.leave();
      assert.notEqual(t.client.join(name), room);
      t.client.close();
    }
  });

  test("payloads with __proto__ keys are passed on as they are", async () => {
    const t = await online();
    t.socket().raw('{"type":"notification","data":{"__proto__":{"admin":true}},"__proto__":{"epoch":"x","offset":9}}');
    const { data, epoch } = t.events.at(-1)[1];
    assert.ok(Object.hasOwn(data, "__proto__"));
    assert.equal(data.admin, undefined);
    assert.equal(epoch, undefined);
    t.client.close();
  });
});
