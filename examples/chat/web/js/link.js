// Connects the model to the server: the one module that knows the realtime client.

import { connect } from "../parley.js";
import { saved, ownSecret } from "./storage.js";

const DEFAULT_ROOMS = ["lobby", "ideas", "random"];
const TYPING_EVERY = 2000; // ms
const OLDER = 50; // messages in a page of history

export class Link {
  #model;
  #client = null;
  #typed = { conversation: null, at: 0 };
  #notified = null; // the position of the newest notification shown

  /** `onState` is told {state, retryIn, reason}. */
  constructor(model, onState) {
    this.#model = model;
    this.onState = onState;
  }

  /** Connects as `name`; a connection under another name ends. */
  start(name) {
    const rooms = this.#model.rooms.length ? this.#model.rooms.map((each) => each.id) : saved.rooms ?? DEFAULT_ROOMS;
    if (this.#client) {
      // Left for good and not just for a moment, so that the others see who goes and who comes.
      for (const { room } of this.#model.rooms) room?.leave();
      this.#client.close();
    }
    const url = new URL("realtime", document.baseURI);
    const client = connect(url, { token: `${ownSecret()}.${name}` });
    this.#client = client;
    this.#listen(client);
    for (const room of rooms) this.join(room);
  }

  #listen(client) {
    const model = this.#model;
    client.on("state", ({ state, retryIn }) => {
      if (client === this.#client) this.onState({ state, retryIn, reason: client.closeReason });
    });
    client.on("connected", ({ userId, username }) => model.setMe(userId, username));
    client.on("private", (message) => model.receive(model.open("user", message.senderId), message));
    client.on("broadcast", (message) => model.receive(model.everyone, message));
    client.on("notification", (message) => this.#notification(message, true));
    client.on("inbox", ({ messages }) => {
      for (const message of messages) {
        if (message.type === "private") model.receive(model.open("user", message.senderId), message);
        else this.#notification(message, false);
      }
    });
    client.on("signal", ({ senderId, name, data }) => {
      const conversation = model.conversations.get(`user:${senderId}`);
      if (name === "typing" && conversation) model.setTyping(conversation, senderId, model.name(senderId), data === true);
    });
    client.on("error", ({ message, room }) => {
      model.emit("toast", { icon: "close", title: room ? `Room ${room}` : "Something went wrong", text: message });
    });
  }

  #notification({ data, timestamp, epoch, offset }, live) {
    // Each once, also when the inbox is sent again.
    if (this.#notified?.epoch === epoch && offset <= this.#notified.offset) return;
    if (offset !== undefined) this.#notified = { epoch, offset };
    const text = data?.kind === "reminder" ? data.text : data;
    this.#model.notify({ text, time: timestamp ?? Date.now(), fresh: live });
    if (live) this.#model.emit("toast", { icon: "bell", title: "Reminder", text });
  }

  // --- rooms ---

  join(name) {
    const model = this.#model;
    const conversation = model.open("room", name);
    const room = this.#client.join(name);
    if (conversation.room === room) return conversation;
    conversation.room = room;
    room.on("history", ({ messages }) => this.#history(conversation, messages));
    room.on("message", (message) => model.receive(conversation, message));
    room.on("system", ({ content }) => {
      conversation.timeline.system(content);
      model.changed(conversation);
    });
    room.on("presence", ({ members, joined }) => {
      for (const { userId, username } of members ?? joined ?? []) model.learn(userId, username);
      model.emit("people", conversation);
    });
    room.on("signal", ({ senderId, username, name: signal, data }) => {
      if (signal === "typing") model.setTyping(conversation, senderId, username, data === true);
    });
    room.joined.catch((error) => this.#refused(conversation, room, error));
    this.#saveRooms();
    return conversation;
  }

  #history(conversation, messages) {
    const model = this.#model;
    for (const { userId, username } of messages) model.learn(userId, username);
    conversation.timeline.replace(messages, model.isOwn);
    const seen = saved.seen[conversation.id];
    if (seen && seen.epoch === messages.at(-1)?.epoch && !model.isSeen(conversation)) {
      conversation.unread = messages.filter((each) => each.offset > seen.offset && !model.isOwn(each)).length;
      model.emit("list");
    }
    model.changed(conversation);
  }

  #refused(conversation, room, error) {
    if (conversation.room !== room || error.code === "closed") return; // left or reconnecting on purpose
    this.#model.remove(conversation);
    this.#saveRooms();
    this.#model.emit("toast", { icon: "close", title: `Room ${conversation.id}`, text: error.message });
  }

  leave(conversation) {
    const { room } = conversation;
    conversation.room = null;
    room?.leave();
    this.#model.remove(conversation);
    this.#saveRooms();
  }

  #saveRooms() {
    saved.rooms = this.#model.rooms.map((each) => each.id);
  }

  /** Loads a page of older messages. */
  async older(conversation) {
    const { timeline, room } = conversation;
    const page = await room.history({ before: timeline.oldest, limit: OLDER });
    for (const { userId, username } of page.messages) this.#model.learn(userId, username);
    timeline.prepend(page.messages, page.more, this.#model.isOwn);
    this.#model.emit("items", conversation);
  }

  // --- sending ---

  send(conversation, text) {
    this.#deliver(conversation, conversation.timeline.send(this.#model.me, text));
  }

  retry(conversation, item) {
    conversation.timeline.again(item);
    this.#deliver(conversation, item);
  }

  async #deliver(conversation, item) {
    this.#typed.at = 0; // the message itself ends the others' indicator
    this.#model.changed(conversation);
    try {
      conversation.timeline.confirm(item, await this.#dispatch(conversation, item.content));
    } catch (error) {
      const gone = conversation.kind === "user" && error.code === "not_found";
      conversation.timeline.fail(item, gone ? `${this.#model.name(conversation.id)} is not here right now` : error.message);
    }
    this.#model.changed(conversation);
  }

  #dispatch(conversation, content) {
    if (conversation.kind === "room") return conversation.room.send(content);
    return conversation.kind === "user" ? this.#client.private(conversation.id, content) : this.#client.broadcast(content);
  }

  /** Tells the others that the user types, or has stopped; not with every key. */
  typing(conversation, on) {
    if (conversation.kind === "everyone") return;
    const again = this.#typed.conversation === conversation && Date.now() - this.#typed.at < TYPING_EVERY;
    if (on ? again : !again) return;
    this.#typed = { conversation, at: on ? Date.now() : 0 };
    if (conversation.kind === "room") conversation.room?.signal("typing", on);
    else this.#client.signal(conversation.id, "typing", on);
  }

  /** Asks the server for a notification in some seconds. */
  remind(seconds, text) {
    return this.#client.call("remind", { seconds, text });
  }
}
