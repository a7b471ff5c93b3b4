// Types of the React hooks of the parley browser client. They work with React 18 and later, in StrictMode, and on a
// server (they give what they give before there is a connection). A client may be null or undefined for as long as there
// is none, for example on a server or before somebody has logged in; then the hooks do nothing.
import type { Client, ClientEvents, Member, Message, ParleyError, Room, RoomEvents, State } from "./parley.js";

type Maybe<T> = T | null | undefined;

/** They count when the first component joins the room. */
export interface UseRoomOptions {
  /** Counts only for anonymous users. */
  username?: string;
  /** How many messages are held at most: the newest ones, and what `older` has loaded. Default 1000. */
  limit?: number;
}

export interface UseRoom<T = any> {
  /**
   * The room that all components with the same client and name share. Undefined in the very first render.
   * Don't call its `leave`: it is left one second after the last component is gone.
   */
  room: Room<T> | undefined;
  /** Oldest first, without holes and without doubles. A new array when it changes, the same one otherwise. */
  messages: readonly Message<T>[];
  /** There are older ones, or may be. */
  more: boolean;
  /**
   * The last time when messages were missed that can't be had again: `messages` has begun anew then. Undefined if that
   * never happened.
   */
  gap: RoomEvents<T>["gap"] | undefined;
  /**
   * Why the room is over: joining it was refused, at first or after a reconnect, the application has ended the membership (the
   * code is `left`, the message its reason, which may be empty), or the client has ended. The next
   * component that mounts when no other uses the room tries again.
   */
  error: ParleyError | ClientEvents["error"] | undefined;
  /** Sends, as `room.send`. Always the same function for a client and a room; may be called in effects. */
  send: Room<T>["send"];
  /**
   * Loads 50 older messages in front of the others; `more` tells whether there are still older ones. Rejects as
   * `room.history`. A second call while one is under way changes nothing.
   */
  older(): Promise<void>;
}

/** The state of the connection. "connecting" where there is no client. */
export function useConnectionState(client: Maybe<Client>): State;

/**
 * Joins a room, and shows what is told in it. Components with the same client and name share one membership; other
 * parts of the page should not join or leave the same room by themselves.
 */
export function useRoom<T = any>(client: Maybe<Client>, name: string, options?: UseRoomOptions): UseRoom<T>;

export interface UsePresence {
  /** At most 100 of those who were there first, and whoever joins later: `count` is always complete. */
  members: readonly Member[];
  /** How many users are in the room. */
  count: number;
}

/** Who is in a room, for example in that of `useRoom`. */
export function usePresence(room: Maybe<Room<any>>): UsePresence;
/** Who is in a room, which is joined for that. */
export function usePresence(client: Maybe<Client>, name: string): UsePresence;
