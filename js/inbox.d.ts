// Types of the inbox with its read state. The protocol behind it is docs/protocol.md, section 8.
import type { Client, Notification, Private } from "./parley.js";

export type ItemState = "unread" | "read" | "archived";

/** What every entry of the inbox has beside its content. It is never changed: another state is another object. */
interface Listed {
  readonly state: ItemState;
  readonly epoch: string;
  readonly offset: number;
}

/** An entry of the inbox: a notification or a private message, as the client tells it, and its state. */
export type Item =
  | (Omit<Notification, keyof Listed | "unread" | "version"> & Listed)
  | (Omit<Private, keyof Listed | "unread" | "version"> & Listed);

/**
 * Which entries are meant: an item, or a list of them; everything up to an offset; or notifications by the ids that the
 * application gave them. What the server does not keep any more is passed over.
 */
export type Which =
  | Pick<Item, "epoch" | "offset">
  | readonly Pick<Item, "epoch" | "offset">[]
  | { readonly upTo: number; readonly epoch?: string }
  | { readonly ids: readonly string[] };

export interface InboxOptions {
  /** How many entries are listed at most, apart from what `more` has added. Default 100. */
  limit?: number;
}

export interface Inbox {
  /** Newest first, without doubles. A new array after each change. Empty again for another user. */
  readonly items: readonly Item[];
  /** How many entries are unread, by the server's count: also of those that are not listed (`client.unread`). */
  readonly unread: number;
  /** The newest version of that number that was seen; 0 before the first. It is never compared over epochs. */
  readonly version: number;
  /**
   * Unread entries up to this offset were removed, to keep the inbox within its limits. Known of when it was loaded and
   * after every connect; undefined if there are none, and when everything up to there was marked here.
   */
  readonly truncated: number | undefined;
  /** There are older ones than those listed, or may be. */
  readonly hasMore: boolean;
  /**
   * Calls `fn` after something has changed, once for all that happened at a time, until the function that it returns is
   * called, or the inbox is closed. An error thrown by `fn` is reported as an uncaught one and disturbs nothing else.
   */
  on(event: "change", fn: () => void): () => void;
  /**
   * Makes entries read. Without `which` that is everything up to the newest one listed, also what is not listed.
   * Archived ones stay archived. Waits for a connection and survives its loss, as `room.send`; resolves when the server has
   * done it, at once if there is nothing to do. The items change when the server tells all devices, about then; those that it
   * does not keep any more, because their time was over, go from the list. Rejects
   * with a `ParleyError`: with `reset` or `ahead` if `upTo` is not of this log.
   */
  markRead(which?: Which): Promise<void>;
  /** Makes entries unread again, and no longer archived. Otherwise as `markRead`. */
  markUnread(which?: Which): Promise<void>;
  /** Makes entries read, and puts them away. They stay listed, with this state. Otherwise as `markRead`. */
  archive(which?: Which): Promise<void>;
  /**
   * Adds a page of older entries at the end of `items`; resolves with `hasMore`. Waits for a connection; rejects with
   * `disconnected` if that is lost before the answer. A second call while one is under way changes nothing.
   */
  more(): Promise<boolean>;
  /** Ends all events. The list stays as it is; what is being marked is marked. The client goes on. */
  close(): void;
}

/**
 * Lists the inbox of the client's user and keeps it as the server has it, over reconnects. Any time will do: a client that was
 * connected already is asked for the newest entries. Anonymous users have no inbox: it stays empty.
 */
export function openInbox(client: Client, options?: InboxOptions): Inbox;
