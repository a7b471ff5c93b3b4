/**
 * The React hook of the inbox, as @parley-go/client/react-inbox; react-inbox.d.ts says what everything means.
 *
 *     const { items, unread, markRead } = useNotifications(client);
 *
 * All components with the same client share one inbox. It is opened when the first one mounts, and closed a moment after
 * the last one is gone: StrictMode mounts everything twice, and a page that changes views should not load it again.
 */
import { useCallback, useMemo, useSyncExternalStore } from "react";
import { openInbox } from "./inbox.js";

const GRACE_MS = 1000; // between the last component that uses an inbox and its end
const NOTHING = { items: [], unread: 0, truncated: undefined, hasMore: false };
const nothing = () => {};

/** Of each client the inbox in use. `now` is replaced and never changed. */
const clients = new WeakMap();

function open(client) {
  const inbox = openInbox(client);
  const users = new Set();
  const use = { inbox, users };
  const look = () => {
    const { items, unread, truncated, hasMore } = inbox;
    use.now = { items, unread, truncated, hasMore };
    for (const tell of users) tell();
  };
  inbox.on("change", look);
  look();
  clients.set(client, use);
  return use;
}

/** Uses the inbox until the function that it returns is called; `tell` is called when something has changed. */
function acquire(client, tell) {
  if (!client) return nothing;
  const use = clients.get(client) ?? open(client);
  clearTimeout(use.timer);
  use.users.add(tell);
  return () => {
    use.users.delete(tell);
    if (use.users.size) return;
    use.timer = setTimeout(() => {
      clients.delete(client);
      use.inbox.close();
    }, GRACE_MS);
  };
}

export function useNotifications(client) {
  const snapshot = useSyncExternalStore(
    useCallback((tell) => acquire(client, tell), [client]),
    () => clients.get(client)?.now ?? NOTHING,
    () => NOTHING,
  );
  const actions = useMemo(() => {
    // An effect of a child runs before its parent uses the inbox: this opens it.
    const does = (what) => async (which) => (acquire(client, nothing)(), clients.get(client)?.inbox[what](which));
    return { markRead: does("markRead"), markUnread: does("markUnread"), archive: does("archive"), more: does("more") };
  }, [client]);
  return { ...snapshot, ...actions };
}
