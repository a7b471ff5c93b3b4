/**
 * React hooks for the parley client, as @parley-go/client/react; react.d.ts says what everything means.
 *
 *     const { messages, send } = useRoom(client, "general");
 *
 * A room is joined when its first component mounts, and left a moment after its last one is gone: StrictMode mounts
 * everything twice, and a page that changes views should not leave and join again. Meanwhile it goes on collecting.
 * The hook of the inbox is in react-inbox.js, for the pages that show one.
 */
import { useCallback, useMemo, useSyncExternalStore } from "react";

const GRACE_MS = 1000; // between the last component that uses a room and its leave
const PAGE = 50; // messages that older() asks for
const NONE = [];
const NOBODY = new Map();
const NOTHING = { room: undefined, messages: NONE, more: false, gap: undefined, error: undefined };
const nothing = () => {};

/** Of each client the rooms in use, by name. */
const clients = new WeakMap();

const find = (client, name) => clients.get(client)?.get(name);

/** Joins a room and keeps what it tells, for all components together. `now` is replaced and never changed. */
function open(client, name, { limit = 1000, ...options } = {}) {
  const room = client.join(name, options);
  const use = { now: { ...NOTHING, room }, users: new Set() };
  let most = limit;
  const set = (change) => {
    use.now = { ...use.now, ...change };
    for (const tell of use.users) tell();
  };
  const fail = (error) => {
    stop();
    set({ error });
  };
  const stop = client.on("error", (error) => error.room === name && fail(error));
  room.joined.catch(fail);
  room.on("history", ({ messages }) => {
    most = limit;
    const newest = messages.slice(-most);
    set({ messages: newest, more: newest[0]?.offset > 1 });
  });
  room.on("message", (m) => {
    const all = [...use.now.messages, m];
    set(all.length > most ? { messages: all.slice(-most), more: true } : { messages: all });
  });
  room.on("gap", (gap) => set({ gap }));
  room.on("left", ({ reason }) => fail({ code: "left", message: reason, room: name }));
  use.close = () => {
    stop();
    room.leave();
  };
  use.older = async () => {
    const [first] = use.now.messages;
    const page = await room.history({ before: first?.offset, limit: PAGE });
    const { messages } = use.now;
    if (messages[0] === first) {
      most += page.messages.length;
      set({ messages: [...page.messages, ...messages], more: page.more });
    } // else the list has begun anew meanwhile
  };
  return use;
}

/** Uses a room until the function that it returns is called; `tell` is called when something has changed. */
function acquire(client, name, options, tell) {
  if (!client) return nothing;
  let rooms = clients.get(client);
  if (!rooms) clients.set(client, (rooms = new Map()));
  let use = rooms.get(name);
  clearTimeout(use?.timer);
  // A room that could not be joined is tried again by who comes after all others have gone.
  if (!use || (use.now.error && !use.users.size)) rooms.set(name, (use = open(client, name, options)));
  use.users.add(tell);
  return () => {
    use.users.delete(tell);
    if (use.users.size) return;
    use.timer = setTimeout(() => {
      rooms.delete(name);
      use.close();
    }, GRACE_MS);
  };
}

/** What acquire has of a room now. The options count only when it is joined. */
const useSnapshot = (client, name, options) =>
  useSyncExternalStore(
    useCallback((tell) => acquire(client, name, options, tell), [client, name]),
    () => find(client, name)?.now ?? NOTHING,
    () => NOTHING,
  );

/** What `get` reads of an emitter: the same value as long as `event` tells of no change. */
const useValue = (emitter, event, get, none) =>
  useSyncExternalStore(
    useCallback((tell) => emitter?.on(event, tell) ?? nothing, [emitter]),
    () => (emitter ? get(emitter) : none),
    () => none,
  );

export const useConnectionState = (client) => useValue(client, "state", (c) => c.state, "connecting");

export function useRoom(client, name, options) {
  const snapshot = useSnapshot(client, name, options);
  const actions = useMemo(() => {
    // An effect of a child runs before the room of its parent is joined: this joins it.
    const reach = () => (acquire(client, name, options, nothing)(), find(client, name));
    return { send: async (content) => reach().now.room.send(content), older: async () => reach().older() };
  }, [client, name]);
  return { ...snapshot, ...actions };
}

export function usePresence(source, name) {
  const joined = useSnapshot(name === undefined ? undefined : source, name).room;
  const room = name === undefined ? source : joined;
  const members = useValue(room, "presence", (r) => r.members, NOBODY);
  const count = useValue(room, "presence", (r) => r.count, 0);
  return { members: useMemo(() => [...members.values()], [members]), count };
}
