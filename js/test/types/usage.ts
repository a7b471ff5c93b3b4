// Every part of the API, used as a page would; the compiler is the test.
import { connect } from "@parley-go/client";
import { openInbox } from "@parley-go/client/inbox";
import type { Inbox, Item, ItemState, Which } from "@parley-go/client/inbox";
import type { Ack, Client, ErrorCode, GapCode, JoinOptions, Member, Message, Notification, ParleyError, Position, Private, Room, State } from "@parley-go/client";

interface Chat {
  text: string;
}

export async function page(): Promise<void> {
  const client: Client = connect("realtime", {
    token: async () => (Math.random() < 0.5 ? "secret" : null),
    WebSocket,
    backoff: { min: 500, max: 20000 },
    queue: 100,
    timeout: 120000,
  });
  connect(new URL("wss://example.test/realtime"), { token: "x" }).close();
  connect("realtime").close();

  const state: State = client.state;
  const ids: string[] = [client.clientId, client.userId, client.username ?? "", client.closeReason, state];
  const code: number | undefined = client.closeCode;

  const stop: () => void = client.on("state", ({ state, retryIn }) => console.log(state, (retryIn ?? 0) / 1000));
  stop();
  client.on("connected", ({ clientId, userId, username, resumed }) => ids.push(clientId, userId, username ?? "", resumed ? "kept" : ""));
  client.on("joined", (given) => given.on("message", (m) => console.log(given.name, m.content)));
  client.on("unread", ({ unread }) => console.log(unread + 1));
  client.on("broadcast", ({ senderId, clientId, message, offset }) => console.log(senderId, clientId?.length, message.any.thing, offset ?? 0));
  client.on("private", (m: Private) => console.log(m.senderId.length, m.message, m.timestamp ?? 0));
  client.on("notification", (n: Notification) => console.log(n.data, n.epoch));
  client.on("signal", ({ senderId, name, data, room }) => console.log(senderId, name, data, room ?? "user"));
  client.on("error", ({ code, message, room }) => console.log(code.length, message, room));
  client.on("bye", ({ code, reason, retryMin, retryMax }) => console.log(code + retryMin + retryMax, reason));
  client.on("gap", ({ topic, epoch, offset, code }) => console.log(topic === "inbox", epoch, offset, code === "gone"));
  client.on("recovered", ({ topic, missed, offset }) => console.log(topic === "broadcast", missed + 1, offset));
  client.on("inbox", ({ messages }) => {
    for (const m of messages) console.log(m.type === "private" ? m.message : m.data);
  });

  const room: Room<Chat> = client.join<Chat>("general", { username: "kim" });
  const same: Room<Chat> = await room.joined;
  room.on("message", (m: Message<Chat>) => console.log(m.username, m.content.text, m.timestamp, m.offset));
  room.on("history", ({ messages, epoch, offset }) => console.log(messages[0]?.content.text, epoch, offset));
  room.on("left", ({ room: name, reason }) => console.log(name.length, reason.length));
  room.on("system", ({ content }) => console.log(content.length));
  room.on("presence", ({ members, joined, left, count }) => console.log(members, joined?.[0]?.userId, left, count));
  room.on("signal", ({ senderId, username, name, data }) => console.log(senderId, username, name, data));
  room.on("gap", ({ epoch, offset, code }) => {
    const why: GapCode | undefined = code;
    console.log(epoch, offset, why);
  });
  const kept: Position | undefined = room.position;
  const options: JoinOptions = { username: "kim", since: kept };
  client.join("general", options).leave();
  client.join("general", { since: JSON.parse("null") as Position | null }).leave();
  console.log((room.position?.epoch.length ?? 0) + (room.position?.offset ?? 0));
  room.on("recovered", ({ missed }) => console.log(missed + 1));
  try {
    const ack: Ack = await same.send({ text: "hello" });
    console.log(ack.epoch, ack.offset, ack.duplicate === true);
  } catch (e) {
    const code: ErrorCode = (e as ParleyError).code;
    console.log(code === "timeout" || code === "out_of_stock", (e as ParleyError).message, (e as ParleyError).name);
  }
  const members: Member[] = [...room.members.values()];
  console.log(room.name, room.count, members);
  const { messages, more } = await room.history({ before: 10, limit: 20 });
  console.log(more, messages.map((m) => m.content.text), await room.history());
  room.signal("typing", true);
  room.signal("typing");
  room.leave();

  await client.private("u2", { any: "thing" });
  await client.broadcast(null);
  const sum = await client.call<number>("sum", [1, 2]);
  const { rtt, timestamp } = await client.ping();
  client.signal("u2", "wave", { x: 1 });
  console.log(sum + rtt + timestamp + client.unread, code);

  client.on("marked", ({ as, epoch, offsets, unread, version }) => console.log(as === "archived", epoch, offsets[0]?.[0], unread, version));
  client.on("inbox", ({ read, archived, truncated, unread }) => console.log(read?.[0]?.[1], archived?.length, truncated, unread));
  client.on("recovered", ({ read }) => console.log(read?.length));
  const { unread, version } = await client.request({ type: "read", epoch: "e", offset: 4 });
  await client.request({ type: "archive", ids: ["order-1"] });
  const older = await client.request({ type: "history", topic: "inbox", before: 9 }, "inbox");
  console.log((unread ?? 0) + (version ?? 0), older.more, older.messages[0]?.offset);

  const inbox: Inbox = openInbox(client, { limit: 50 });
  inbox.on("change", () => console.log(inbox.unread + inbox.version, inbox.truncated, inbox.hasMore))();
  const item: Item = inbox.items[0]!;
  const itemState: ItemState = item.state;
  if (item.type === "notification") console.log(item.data, item.kind, item.id, itemState);
  else console.log(item.senderId, item.message, item.offset + 1, item.epoch.length);
  const which: Which = { ids: ["order-1"] };
  await inbox.markRead();
  await inbox.markRead(item);
  await inbox.markUnread(inbox.items.filter((i) => i.state === "read"));
  await inbox.archive(which);
  await inbox.archive({ upTo: 7 });
  const still: boolean = await inbox.more();
  console.log(still);
  inbox.close();
  client.close();

  // @ts-expect-error an item is not to be changed
  item.state = "read";
  // @ts-expect-error of which log?
  void client.request({ type: "read", offset: 4 });
  // @ts-expect-error no such event
  inbox.on("unread", () => {});
  // @ts-expect-error no such event
  client.on("nonsense", () => {});
  // @ts-expect-error the room carries Chat
  void room.send("text");
  // @ts-expect-error set by the client
  client.state = "closed";
  // @ts-expect-error set by the client
  room.members.clear();
  // @ts-expect-error set by the client
  room.position!.offset = 1;
  // @ts-expect-error a token is text
  connect("realtime", { token: 7 });
}
