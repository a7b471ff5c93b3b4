// Every part of the hooks, used as components would; the compiler is the test.
import type { Client, Member, Message, Room, State } from "@parley-go/client";
import { useConnectionState, usePresence, useRoom } from "@parley-go/client/react";
import { useNotifications } from "@parley-go/client/react-inbox";
import type { Item } from "@parley-go/client/inbox";
import type { UseNotifications } from "@parley-go/client/react-inbox";
import type { UsePresence, UseRoom, UseRoomOptions } from "@parley-go/client/react";

interface Chat {
  text: string;
}

export function component(client: Client, nobody: Client | null): unknown[] {
  const state: State = useConnectionState(client);
  const options: UseRoomOptions = { username: "kim", limit: 200 };
  const chat: UseRoom<Chat> = useRoom<Chat>(client, "general", options);
  const messages: readonly Message<Chat>[] = chat.messages;
  const room: Room<Chat> | undefined = chat.room;
  const loading: Promise<void> = chat.older();
  const sent: Promise<number | undefined> = chat.send({ text: "hello" }).then((ack) => ack.offset);
  const plain = useRoom(nobody, "general");
  void plain.send("anything");
  const here: UsePresence = usePresence(room);
  const members: readonly Member[] = usePresence(client, "general").members;
  const bell: UseNotifications = useNotifications(nobody);
  const items: readonly Item[] = bell.items;
  const marking: Promise<void>[] = [bell.markRead(), bell.markUnread(items[0]!), bell.archive({ upTo: bell.truncated ?? 0 })];
  const paging: Promise<boolean | undefined> = bell.more();
  useConnectionState(null);
  usePresence(undefined);

  // @ts-expect-error the room carries Chat
  void chat.send("text");
  // @ts-expect-error a list is not to be changed
  chat.messages.push(messages[0]!);
  // @ts-expect-error a client has no members: of which room?
  usePresence(client);
  // @ts-expect-error no such option
  useRoom(client, "general", { user: "kim" });
  return [
    state, messages.map((m) => m.content.text), loading, sent, here.count + members.length, bell.unread, bell.hasMore, items, marking, paging,
    chat.more, chat.gap?.code, chat.gap?.offset, chat.error?.code, chat.error?.message,
  ];
}
