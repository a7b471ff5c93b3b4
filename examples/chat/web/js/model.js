// What the page knows. The views listen to its events and never talk to the
// server; link.js feeds it.

import { Timeline } from "./timeline.js";
import { saved } from "./storage.js";

const KEPT_PRIVATE = 100; // messages of each private conversation that survive a reload
const MOST_ITEMS = 2000; // in the conversation in view
const TYPING_LASTS = 5000; // ms; whoever types says so again every 2 s

export class Emitter {
  #listeners = new Map();

  on(event, fn) {
    if (!this.#listeners.has(event)) this.#listeners.set(event, new Set());
    this.#listeners.get(event).add(fn);
  }

  emit(event, payload) {
    for (const fn of this.#listeners.get(event) ?? []) fn(payload);
  }
}

/** A room, a private conversation ("user") or what is said to everybody ("everyone"). */
class Conversation {
  timeline = new Timeline();
  unread = 0;
  draft = "";
  /** The room of the realtime client, while joined. */
  room = null;
  /** The item before which "New" stands. */
  firstNew = null;
  typing = new Map(); // user id -> {name, timer}

  constructor(kind, id) {
    this.kind = kind;
    this.id = id;
    this.key = kind === "everyone" ? kind : `${kind}:${id}`;
  }
}

/**
 * Events: `list` (conversations came, went or changed their number), `items`, `people`
 * and `typing` (with the conversation), `select`, `me`, `notifications`, `toast`.
 */
export class Model extends Emitter {
  me = { id: "", name: "" };
  everyone = new Conversation("everyone", "");
  conversations = new Map([["everyone", this.everyone]]);
  current = this.everyone;
  notifications = []; // {text, time, fresh}, newest first
  unreadNotifications = 0;
  #names = new Map(); // user id -> name, as far as seen
  #saving = 0;

  isOwn = (message) => (message.userId ?? message.senderId) === this.me.id;

  get rooms() { return [...this.conversations.values()].filter((each) => each.kind === "room"); }
  get privates() { return [...this.conversations.values()].filter((each) => each.kind === "user"); }
  get unread() { return [...this.conversations.values()].reduce((sum, each) => sum + each.unread, 0); }

  setMe(id, name) {
    this.me = { id, name };
    this.emit("me");
  }

  /** The conversation, made if it is not there. */
  open(kind, id) {
    const key = kind === "everyone" ? kind : `${kind}:${id}`;
    let conversation = this.conversations.get(key);
    if (!conversation) {
      conversation = new Conversation(kind, id);
      this.conversations.set(key, conversation);
      this.emit("list");
    }
    return conversation;
  }

  remove(conversation) {
    this.conversations.delete(conversation.key);
    if (this.current === conversation) this.select(this.rooms[0] ?? this.everyone);
    this.emit("list");
  }

  select(conversation) {
    this.current.firstNew = null;
    this.current = conversation;
    if (conversation.unread) conversation.firstNew = this.#firstUnread(conversation);
    this.emit("select", conversation);
    this.markSeen();
  }

  #firstUnread({ timeline, unread }) {
    const messages = timeline.items.filter((item) => item.kind === "message" && !item.own);
    return messages.at(-Math.min(unread, messages.length)) ?? null;
  }

  title(conversation) {
    if (conversation.kind === "user") return this.name(conversation.id);
    return conversation.kind === "room" ? conversation.id : "Everyone";
  }

  // --- people ---

  learn(userId, name) {
    if (userId && name) this.#names.set(userId, name);
  }

  name(userId) {
    if (userId === "") return "Server";
    return this.#names.get(userId) ?? `Guest ${userId.slice(-4)}`;
  }

  /** Who is in the room, or in any room of ours when the conversation is none. */
  people(conversation) {
    const rooms = conversation.kind === "room" ? [conversation] : this.rooms;
    const all = new Map();
    for (const { room } of rooms) {
      for (const member of room?.members.values() ?? []) all.set(member.userId, member);
    }
    return all;
  }

  isHere(userId) {
    return this.rooms.some(({ room }) => room?.members.has(userId));
  }

  /** How many are in the room; the server names 100 at first. */
  count(conversation) {
    return conversation.kind === "room" ? conversation.room?.count ?? 0 : this.people(conversation).size;
  }

  setTyping(conversation, userId, name, on) {
    clearTimeout(conversation.typing.get(userId)?.timer);
    conversation.typing.delete(userId);
    if (on) {
      const timer = setTimeout(() => this.setTyping(conversation, userId, name, false), TYPING_LASTS);
      conversation.typing.set(userId, { name, timer });
    }
    this.emit("typing", conversation);
  }

  // --- messages ---

  /** A message of somebody came: shows it, counts it, and tells about it if it is for this user. */
  receive(conversation, message) {
    const own = this.isOwn(message);
    const sender = message.userId ?? message.senderId;
    this.learn(sender, message.username);
    const isNew = conversation.timeline.receive(message, own);
    this.setTyping(conversation, sender, "", false);
    if (isNew && !own) this.#count(conversation, message);
    this.changed(conversation);
    return isNew;
  }

  #count(conversation, message) {
    if (this.isSeen(conversation)) return;
    conversation.unread++;
    if (conversation === this.current) conversation.firstNew ??= conversation.timeline.last;
    if (conversation.kind !== "room") {
      const sender = this.name(message.senderId);
      const title = conversation.kind === "user" ? sender : `${sender} to everyone`;
      this.emit("toast", { icon: conversation.kind === "user" ? "people" : "megaphone", title, text: message.message, conversation });
    }
    this.emit("list");
  }

  isSeen(conversation) {
    return conversation === this.current && !document.hidden;
  }

  /** What is in view counts as read. */
  markSeen() {
    const conversation = this.current;
    if (!this.isSeen(conversation)) return;
    const position = conversation.kind === "room" && conversation.timeline.newest;
    if (position) saved.seen = { ...saved.seen, [conversation.id]: position };
    if (conversation.unread) {
      conversation.unread = 0;
      this.emit("list");
    }
  }

  /** To be called after every change of a timeline. */
  changed(conversation) {
    // Who has scrolled up in a long conversation reads; trimming would move the text. But not for ever.
    if (conversation !== this.current || conversation.timeline.items.length > MOST_ITEMS) conversation.timeline.trim();
    this.markSeen();
    if (conversation.kind === "user") this.#savePrivates();
    this.emit("items", conversation);
  }

  #savePrivates() {
    clearTimeout(this.#saving);
    this.#saving = setTimeout(() => this.savePrivates(), 300);
  }

  savePrivates() {
    saved.privates = this.privates.map(({ id, timeline, unread }) => (
      { id, name: this.#names.get(id), unread, items: timeline.snapshot(KEPT_PRIVATE) }));
  }

  restorePrivates() {
    for (const { id, name, unread, items } of saved.privates) {
      const conversation = this.open("user", id);
      this.learn(id, name);
      conversation.unread = unread;
      conversation.timeline.restore(items);
    }
  }

  // --- notifications ---

  notify({ text, time, fresh }) {
    this.notifications.unshift({ text, time, fresh });
    this.notifications.length = Math.min(this.notifications.length, 100);
    if (fresh) this.unreadNotifications++;
    this.emit("notifications");
  }

  markNotificationsRead() {
    this.unreadNotifications = 0;
    this.emit("notifications");
  }
}
