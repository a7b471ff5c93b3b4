// Over real sockets and in real time: the WebSocket class of the package ws, as users of Node 20 pass it.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { WebSocket, WebSocketServer } from "ws";
import { connect } from "../parley.js";
import { history, message } from "./harness.js";

const event = (emitter, name, fits = () => true) =>
  new Promise((resolve) => {
    const stop = emitter.on(name, (p) => fits(p) && (stop(), resolve(p)));
  });

describe("over real sockets", () => {
  let server, url;
  const handshakes = [];

  before(async () => {
    server = new WebSocketServer({
      port: 0,
      host: "127.0.0.1",
      handleProtocols: (offered) => (offered.has("parley.v1") ? "parley.v1" : false),
      verifyClient: ({ req }) => !req.url.includes("refuse"),
    });
    await once(server, "listening");
    url = `http://127.0.0.1:${server.address().port}/realtime`;
    server.on("connection", (ws, req) => {
      handshakes.push({ url: req.url, protocols: req.headers["sec-websocket-protocol"], chosen: ws.protocol });
      const say = (m) => ws.send(JSON.stringify(m));
      say({ type: "connected", clientId: `c${handshakes.length}`, userId: "u1", pingInterval: 30_000 });
      ws.on("message", (data) => {
        const m = JSON.parse(data);
        if (m.type === "join") {
          say(history(m.offset === undefined ? [1, 2] : [3], m.offset === undefined ? {} : { recovered: true }));
          say({ type: "ack", id: m.id, epoch: "e", offset: 2 });
        } else if (m.type === "message") {
          if (m.content === "die") return ws.terminate();
          say(message(4, { content: m.content }));
          say({ type: "ack", id: m.id, epoch: "e", offset: 4 });
        } else if (m.type === "ping") say({ type: "pong", id: m.id, timestamp: Date.now() });
        else if (m.type === "call") m.method === "kick" ? ws.close(4100, "go away") : say({ type: "reply", id: m.id, data: m.data });
      });
    });
  });

  after(() => server.close());

  test("connect, join, send, lose the connection, resume, close", async () => {
    const client = connect(url, { WebSocket, token: "sécret", backoff: { min: 20, max: 50 } });
    const room = client.join("r", { username: "kim" });
    const first = await event(room, "history");
    assert.equal(first.messages.length, 2);
    assert.equal(await room.joined, room);
    assert.equal(client.clientId, "c1");
    assert.deepEqual(await client.call("echo", { a: [1] }), { a: [1] });
    assert.ok((await client.ping()).rtt > 0);

    const missed = event(room, "message", (m) => m.offset === 3);
    const lost = room.send("die");
    lost.catch(() => {});
    await missed;
    assert.equal(client.closeCode, 1006);
    assert.ok(handshakes.length >= 2);
    assert.deepEqual(handshakes[1], {
      url: "/realtime",
      protocols: `parley.v1,parley.token.${Buffer.from("sécret").toString("base64url")}`,
      chosen: "parley.v1",
    });
    client.close();
    await assert.rejects(lost, { code: "closed" });
  });

  test("4100 ends it", async () => {
    const client = connect(url, { WebSocket });
    client.call("kick").catch(() => {});
    await event(client, "state", ({ state }) => state === "unauthorized");
    assert.deepEqual([client.closeCode, client.closeReason], [4100, "go away"]);
  });

  test("a refused handshake is tried again", async () => {
    const client = connect(`${url}?refuse`, { WebSocket, backoff: { min: 1, max: 5 } });
    for (let i = 0; i < 3; i++) await event(client, "state", ({ state }) => state === "waiting");
    client.close();
  });

  test("after close() nothing keeps a process alive", async () => {
    const script = `
      import { WebSocket } from "ws";
      import { connect } from ${JSON.stringify(new URL("../parley.js", import.meta.url).href)};
      const client = connect(${JSON.stringify(url)}, { WebSocket });
      const room = client.join("r");
      await room.joined;
      await room.send("x");
      client.call("never", 1).catch(() => {});
      room.send("y").catch(() => {});
      client.close();
      console.log(process.getActiveResourcesInfo().filter((r) => r === "Timeout").length, client.state);
    `;
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
      cwd: new URL("..", import.meta.url),
      stdio: ["ignore", "pipe", "inherit"],
    });
    let out = "";
    child.stdout.on("data", (d) => (out += d));
    const started = Date.now();
    const [code] = await once(child, "exit");
    assert.equal(code, 0);
    // ws itself holds one timer while the closing handshake is under way.
    assert.match(out, /^[01] closed\n$/);
    assert.ok(Date.now() - started < 10_000);
  });
});
