// Types of the React hook of the inbox. It works with React 18 and later, in StrictMode, and on a server (there it gives
// what it gives before there is a connection). The client may be null or undefined for as long as there is none.
import type { Client } from "./parley.js";
import type { Item, Which } from "./inbox.js";

export interface UseNotifications {
  /** Newest first. A new array when it changes, the same one otherwise; so is each item. */
  items: readonly Item[];
  /** How many entries of the inbox are unread, by the server's count: also of those that are not listed. */
  unread: number;
  /** Unread entries up to this offset were removed, to keep the inbox within its limits. */
  truncated: number | undefined;
  /** There are older ones, or may be. */
  hasMore: boolean;
  /** These, and `more`, are those of the inbox (inbox.d.ts), always the same functions for a client. */
  markRead(which?: Which): Promise<void>;
  markUnread(which?: Which): Promise<void>;
  archive(which?: Which): Promise<void>;
  /** Lists older entries, and resolves with whether there are still older ones. Without a client it does nothing. */
  more(): Promise<boolean | undefined>;
}

/**
 * The inbox of the user. All components with the same client share one, which is opened with the first and closed one
 * second after the last.
 */
export function useNotifications(client: Client | null | undefined): UseNotifications;
