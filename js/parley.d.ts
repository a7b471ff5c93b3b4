// Types of the parley browser client. The protocol behind it is docs/protocol.md.

/** A value that JSON can carry. */
export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/**
 * - `connecting`: asking for the token, opening the socket, waiting for the server's first message
 * - `connected`: messages flow
 * - `waiting`: the connection is lost or could not be made; the next attempt comes by itself
 * - `closed`: the end, see `closeCode` and `closeReason`: `close()` was called, or the server said not to come back
 * - `unauthorized`: the end: the application refused (close code 4100), or `token()` failed with `.unauthorized`
 *   or a `.status` of 401 or 403
 *
 * A client never leaves `closed` and `unauthorized`: connect a new one.
 */
export type State = "connecting" | "connected" | "waiting" | "closed" | "unauthorized";

/** One of the codes with which the server refuses (docs/protocol.md, section 6), of the client, or of the application. */
export type ErrorCode =
  | "bad_json" | "bad_request" | "unknown_type" | "unknown_method" | "invalid" | "not_member" | "not_found" | "forbidden"
  | "too_large" | "rate_limited" | "limit" | "reset" | "ahead" | "unavailable" | "closing" | "internal"
  | "timeout" | "queue_full" | "disconnected" | "closed"
  | (string & {});

/**
 * What rejects the promises of this module. `code` is one of the protocol's error codes (section 6), one of the
 * application's own, or one of the client's:
 * - `timeout`: no answer within `Options.timeout`; the message may or may not have arrived
 * - `queue_full`: `Options.queue` requests wait already for a connection, or for a room to be joined
 * - `disconnected`: the connection died after the request was sent, and repeating it could do it twice: calls and pages
 *   of history always, sends if their room was left meanwhile, or if the server took the client for another user after
 *   the reconnect (an anonymous user becomes another one when the server does not accept the session)
 * - `not_member`: the room was left, by the page or by the application, or joining it was refused
 * - `closed`: the client has ended
 * - `too_large`: over the server's size limit; it was not sent
 */
export interface ParleyError extends Error {
  name: "ParleyError";
  code: ErrorCode;
}

export interface Options {
  /**
   * The credentials, or a function that gets them, asked again before every attempt to connect. They travel as a
   * subprotocol entry, never in the URL. None are sent when it is empty: cookies work by themselves. A function that
   * throws leads to another attempt later, unless the error has `.unauthorized` or a `.status` of 401 or 403. An attempt
   * takes at most 20 s, token included: what a function gives after that is not used, and it is asked again.
   */
  token?: string | null | (() => string | null | undefined | Promise<string | null | undefined>);
  /** The WebSocket class. Default: the global one. Node 20 has none: pass that of the package `ws`. */
  WebSocket?: new (url: string, protocols: string[]) => any;
  /**
   * Bounds in ms of the wait before another attempt: a random time up to `min * 2^n`, at most `max`, where n is how many
   * failures came before; 30 s of connection, and the network's coming back, start the count anew. From the second
   * failure on it is at least `min / 5`. A window that the server sets (`bye`) takes its place. Default 500 and 20000.
   */
  backoff?: { min?: number; max?: number };
  /**
   * How many requests may wait for a connection, or for a room to be joined. Default 100. While there is a connection
   * 50 are on their way at a time, and any number waits for those.
   */
  queue?: number;
  /**
   * How long a request waits for its answer, over reconnects, in ms. Default 120000, which is also how long the server
   * knows the ids of messages: with more, a message resent late can appear twice. What was sent before the machine slept
   * for longer is not sent again.
   */
  timeout?: number;
}

/** Where a message stands in its topic. Both are missing when the topic keeps no history. */
export interface Position {
  epoch?: string;
  offset?: number;
}

/** Why what was missed can't be had: too old or too much, the server lost the topic, or it lost its newest messages. */
export type GapCode = "gone" | "reset" | "ahead" | (string & {});

/** Messages were missed that can't be had again. `epoch` and `offset`: the last one seen. */
export interface Gap extends Position {
  /** What the server says. Missing where only the client has noticed. */
  code?: GapCode | undefined;
}

/** A message in a room. */
export interface Message<T = any> extends Position {
  type: "message";
  room: string;
  userId: string;
  username: string;
  content: T;
  /** ms since 1970, by the server's clock */
  timestamp: number;
}

/** How many entries of the inbox are unread. Missing where the message does not belong to an inbox, and in lists. */
export interface Count {
  unread?: number;
  /** The version of `unread`: within an epoch the higher one is the newer one. */
  version?: number;
}

/** First and last offset of a run of entries, both included. */
export type Span = readonly [from: number, to: number];

/** A message to this user, or to this connection alone. */
export interface Private extends Position, Count {
  type: "private";
  /** The user who sent it; "" is the application itself. */
  senderId: string;
  message: any;
  timestamp?: number;
}

/** A notification of the application to this user. */
export interface Notification extends Position, Count {
  type: "notification";
  /** The application's name for it, if it gave one. */
  id?: string;
  kind?: string;
  data: any;
  timestamp?: number;
}

/** A message to everybody. */
export interface Broadcast extends Position {
  type: "broadcast";
  /** The user who sent it; "" is the application itself. */
  senderId: string;
  /** The connection that sent it, if the server keeps a history of broadcasts. */
  clientId?: string;
  message: any;
}

/** Something short-lived, such as "is typing"; it may be lost. */
export interface Signal {
  type: "signal";
  senderId: string;
  name: string;
  data: any;
  /** Both are missing when it was sent to the user and not to a room. */
  room?: string;
  username?: string;
}

export interface Member {
  userId: string;
  username: string;
}

/** The answer to a message that the server took. */
export interface Ack extends Position {
  /** The server had it already: it was resent after a lost connection. */
  duplicate?: boolean;
}

export interface History<T = any> extends Position {
  /** Oldest first. */
  messages: Message<T>[];
}

/** What is kept of the inbox. inbox.js makes a list with read state of it. */
export interface InboxList extends Position, Count {
  /** Oldest first. */
  messages: (Private | Notification)[];
  /** What is marked so of everything that is kept, ascending. What is in neither is unread. */
  read?: readonly Span[];
  archived?: readonly Span[];
  /** Unread entries were removed to keep the inbox within its limits: the offset of the newest of them. */
  truncated?: number;
}

/** The state of these entries is `as` now, on all devices of the user. */
export interface Marked extends Position, Count {
  type: "marked";
  as: "read" | "unread" | "archived" | (string & {});
  offsets: readonly Span[];
}

/** Which entries of the inbox a mark is for: exactly one of `offset` (everything up to it), `offsets` and `ids`. */
export type Mark = { type: "read" | "unread" | "archive" } & (
  | { epoch: string; offset: number }
  | { epoch: string; offsets: readonly number[] }
  | { ids: readonly string[] }
);

export interface ClientEvents {
  /** After every change of `client.state`. `retryIn`: ms until the next attempt, when waiting. */
  state: { state: State; retryIn?: number | undefined };
  /**
   * After every connect, the first and the later ones. `resumed`: whether the server kept the client id; missing on the
   * first. Rooms, sends and what was missed don't depend on it.
   */
  connected: { clientId: string; userId: string; username?: string | undefined; resumed?: boolean | undefined };
  /** New ones, and after a reconnect those that were missed if the server keeps them. Not those of this client. */
  broadcast: Broadcast;
  /** New ones, and after a reconnect those that were missed. */
  private: Private;
  /** New ones, and after a reconnect those that were missed. */
  notification: Notification;
  /** Signals sent to the user. */
  signal: Signal;
  /**
   * What belongs to no promise: an error of the server without a request, a malformed message of the server
   * (`bad_message`), a room that can't be joined any more (then with `room`), a failing `token()` (`token`), a signal
   * over the size limit (`too_large`). That a session was not accepted is none, see `connected`.
   */
  error: { code: ErrorCode | "bad_message" | "token"; message: string; room?: string | undefined };
  /** The server is about to close; coming back is up to the client, after a random time between the two, in ms. */
  bye: { code: number; reason: string; retryMin: number; retryMax: number };
  /**
   * The application has made this client a member of a room that the page has not joined. Its events follow (`history` first), so listen to them at
   * once; or call `client.join` later, which tells the history then. It is joined again after a reconnect, and left by `room.leave()`, as any room.
   */
  joined: Room;
  /** After every change of `client.unread`. */
  unread: { unread: number };
  /** The newest kept private messages and notifications, oldest first: on the first connect and after a `gap`. */
  inbox: InboxList;
  /** Entries of the inbox were marked, here or on another device. Offsets after the newest message seen count, too (P8.5). */
  marked: Marked;
  /**
   * Private messages and notifications (`inbox` follows), or broadcasts (those that are still kept follow), were missed
   * that can't be had again.
   */
  gap: Gap & { topic: "inbox" | "broadcast" };
  /**
   * After a reconnect: nothing of the topic is missing. The `missed` messages came just before, one by one. That of the
   * inbox also has what is marked now.
   */
  recovered: Omit<InboxList, "messages"> & { topic: "inbox" | "broadcast"; missed: number };
}

export interface RoomEvents<T = any> {
  /** New ones, and after a reconnect those that were missed; each once and in order. */
  message: Message<T>;
  /** The newest messages, on joining without `since` and after a `gap`: replaces what is shown. */
  history: History<T>;
  /** "kim joined", "kim left" */
  system: { type: "system"; room: string; content: string };
  /**
   * After `room.members` and `room.count` changed. A snapshot has `members`, a change has `joined` and `left`, a very
   * large room only the count.
   */
  presence: { room: string; count: number; members?: Member[]; joined?: Member[]; left?: Member[] };
  signal: Signal;
  /**
   * The application has ended the membership, and this is the last event: the room is not joined again by itself, what waits for it
   * is rejected with `not_member`. `client.join`, also in the listener, is a new one. `reason` is for the user, and may be empty.
   */
  left: { type: "left"; room: string; reason: string };
  /** Messages were missed that can't be had again; `history` follows. */
  gap: Gap;
  /** After a reconnect, or when a hole was filled: nothing is missing. The `missed` messages came as `message` just before. */
  recovered: Position & { missed: number };
}

export interface JoinOptions {
  /** Counts only for anonymous users. The server's default is "guest-" and some characters. */
  username?: string | undefined;
  /**
   * A position that the page has kept (`room.position`): what came after it is told by `message` and then `recovered`,
   * or there is a `gap` and the newest `history`. Ignored if it is incomplete. Without it, the newest history comes.
   */
  since?: Position | null | undefined;
}

/** A room that was joined with `client.join`. It stays joined over reconnects until `leave`. */
export interface Room<T = any> {
  readonly name: string;
  /**
   * The last message passed on, or `since`; undefined while nothing is known and in rooms without history. A page that
   * keeps it over a reload, together with what it shows, joins with it as `since`.
   */
  readonly position: Readonly<Required<Position>> | undefined;
  /**
   * Resolves when the room is joined, after the first `history` or `recovered`; rejects when the server refuses or when the room is left first. Need not be
   * handled.
   */
  readonly joined: Promise<Room<T>>;
  /**
   * By user id. The server names at most the first 100 and whoever joins later: `count` is always complete. A new Map
   * after each change.
   */
  readonly members: ReadonlyMap<string, Member>;
  /** How many users are in the room. */
  readonly count: number;
  /**
   * Calls `fn` for every event of this name until the function that it returns is called, or the room is left.
   * An error thrown by `fn` is reported as an uncaught one and disturbs nothing else.
   */
  on<K extends keyof RoomEvents<T>>(event: K, fn: (payload: RoomEvents<T>[K]) => void): () => void;
  /**
   * Sends to all members; the sender too gets a `message`. Waits for a connection and survives its loss; resolves when
   * the server has stored the message. Rejects with a `ParleyError`. Messages arrive in the order of sending, except for
   * those that the server refuses for a while (`unavailable`, `rate_limited`): they are sent again a little later.
   */
  send(content: T): Promise<Ack>;
  /** Sends what may be lost to the other members; does nothing while the room is not joined. */
  signal(name: string, data?: unknown): void;
  /** A page of messages older than the offset `before` (0: the newest), oldest first. `more`: there are older ones. */
  history(page?: { before?: number; limit?: number }): Promise<History<T> & { more: boolean }>;
  /** Leaves, and ends all events of this object. */
  leave(): void;
}

export interface Client {
  readonly state: State;
  /** The id of this client. The same one after a reconnect, if the server accepts that (`connected`). "" before the first. */
  readonly clientId: string;
  /** The id of the user; that of the connection for anonymous ones. */
  readonly userId: string;
  /** The name of the user, if the server knows who it is. */
  readonly username: string | undefined;
  /** How the last connection ended, if one did (1006: without a word). */
  readonly closeCode: number | undefined;
  readonly closeReason: string;
  /** How many entries of the inbox are unread, by the server's count: on all devices the same. 0 where there is no inbox. */
  readonly unread: number;
  /**
   * Marks entries of the inbox, or asks for a page of it: what inbox.js is built on, for pages that need nothing more.
   * At most 100 `offsets` or `ids`. A mark waits for a connection and survives its loss, as `room.send`; a page rejects with
   * `disconnected` then. Rejects with `reset` or `ahead` if the position is not of this log. What waits while the user becomes
   * another one is rejected with `disconnected`.
   */
  request(message: Mark): Promise<Ack & Count>;
  request(message: { type: "history"; topic: "inbox"; before?: number | undefined; limit?: number | undefined }, answer: "inbox"): Promise<InboxList & { more: boolean }>;
  /**
   * Calls `fn` for every event of this name until the function that it returns is called, or the client ends.
   * An error thrown by `fn` is reported as an uncaught one and disturbs nothing else.
   */
  on<K extends keyof ClientEvents>(event: K, fn: (payload: ClientEvents[K]) => void): () => void;
  /**
   * Joins a room, at once or when connected. The same name gives the same Room until it is left.
   * The options count when it is joined. For a room that the application has joined (`joined`), the first call of the page does, too: its
   * `history` comes (again), or what was missed since `since`.
   */
  join<T = any>(room: string, options?: JoinOptions): Room<T>;
  /** Sends to a user id or a client id. Waits for a connection and survives its loss, as `room.send`. */
  private(targetId: string, message: unknown): Promise<Ack>;
  /** Sends to everybody else, if the server allows it. Waits for a connection and survives its loss, as `room.send`. */
  broadcast(message: unknown): Promise<Ack>;
  /**
   * Calls a handler of the application. Waits for a connection; rejects with `disconnected` when the connection dies
   * before the reply, because then nobody knows whether it ran.
   */
  call<R = any>(method: string, data?: unknown): Promise<R>;
  /** Sends what may be lost to a user; does nothing while there is no connection. */
  signal(targetId: string, name: string, data?: unknown): void;
  /** The round trip in ms and the server's clock. */
  ping(): Promise<{ rtt: number; timestamp: number }>;
  /** Ends everything: waiting promises reject with `closed`, no timer and no listener stays, rooms are left at once. */
  close(): void;
}

/**
 * Connects to a parley hub and stays connected. Returns at once.
 * @param url of the hub, absolute or relative to the page; http and https are taken for ws and wss
 */
export function connect(url: string | URL, options?: Options): Client;
