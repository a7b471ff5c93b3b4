// Connects the model to the server: the one module that knows the realtime client. That there are several nodes makes no
// difference to it, but that it asks which one it has got to, and tells what became of a lost connection.

import { connect } from "../parley.js";
import { ownSecret } from "../chat/js/storage.js";

const TYPING_EVERY = 2000; // ms
const OLDER = 50; // messages in a page of history

export class Link {
  /** The node that this page is connected to; "" while it is none. */
  node = "";
  #model;
  #client;
  #onState;
  #back = null; // what is known of a connection that came after another: {from, missed}
  #typedAt = 0;
  #gap = false; // messages are missing

  constructor(model, room, onState) {
    this.#model = model;
    this.#onState = onState;
    this.conversation = model.open("room", room);
  }

  start(name) {
    const model = this.#model;
    const client = connect(new URL("realtime", document.baseURI), { token: `${ownSecret()}.${name}` });
    this.#client = client;
    client.on("state", ({ state, retryIn }) => {
      if (state !== "connected") this.#arrived("");
      this.#onState({ state, retryIn, reason: client.closeReason });
    });
    client.on("connected", ({ userId, username }) => {
      model.setMe(userId, username);
      this.#ask();
    });
    client.on("error", ({ message }) => this.#say(`The server says: ${message}`));
    this.#join(client.join(this.conversation.id));
  }

  /** Asks the server which node it is. */
  async #ask() {
    try {
      this.#arrived(await this.#client.call("node"));
    } catch {
      // Disconnected again: it is asked again after the next connect.
    }
  }

  #arrived(node) {
    if (this.node && !node) this.#back = { from: this.node, missed: null };
    this.node = node;
    document.body.dataset.node = node;
    this.#tellBack();
    this.#model.emit("node");
  }

  /** Says, once both are known, where one is now and what came meanwhile. */
  #tellBack() {
    const { from, missed } = this.#back ?? {};
    if (!from || !this.node || missed === null) return;
    this.#back = null;
    const where = from === this.node ? `Back on ${from}` : `${from} is gone, you are on ${this.node} now`;
    const what = missed === 0 ? "nothing was missed" : `${missed === 1 ? "a message" : `${missed} messages`} came meanwhile, none is missing`;
    this.#say(`${where}: ${what}`);
  }

  #join(room) {
    const model = this.#model;
    const { conversation } = this;
    conversation.room = room;
    room.on("history", ({ messages }) => {
      for (const { userId, username } of messages) model.learn(userId, username);
      conversation.timeline.replace(messages, model.isOwn);
      model.changed(conversation);
      if (this.#gap) this.#say("What was said meanwhile is not all kept: this is what there is");
      this.#gap = false;
    });
    room.on("message", (message) => model.receive(conversation, message));
    room.on("recovered", ({ missed }) => {
      if (this.#back) this.#back.missed = missed;
      this.#tellBack();
    });
    room.on("gap", () => { this.#gap = true; this.#back = null; }); // the newest history follows
    room.on("system", ({ content }) => this.#say(content));
    room.on("presence", ({ members, joined }) => {
      for (const { userId, username } of members ?? joined ?? []) model.learn(userId, username);
      model.emit("people", conversation);
    });
    room.on("signal", ({ senderId, username, name, data }) => {
      if (name === "typing") model.setTyping(conversation, senderId, username, data === true);
    });
  }

  #say(text) {
    this.conversation.timeline.system(text);
    this.#model.changed(this.conversation);
  }

  /** Loads a page of older messages. */
  async older() {
    const { timeline, room } = this.conversation;
    const page = await room.history({ before: timeline.oldest, limit: OLDER });
    for (const { userId, username } of page.messages) this.#model.learn(userId, username);
    timeline.prepend(page.messages, page.more, this.#model.isOwn);
    this.#model.emit("items", this.conversation);
  }

  send(conversation, text) {
    this.#deliver(conversation.timeline.send(this.#model.me, text));
  }

  retry(item) {
    this.conversation.timeline.again(item);
    this.#deliver(item);
  }

  /** Waits for a node if there is none: the client sends it when it is connected. */
  async #deliver(item) {
    const { timeline, room } = this.conversation;
    this.#typedAt = 0; // the message itself ends the others' indicator
    this.#model.changed(this.conversation);
    try {
      timeline.confirm(item, await room.send(item.content));
    } catch (error) {
      timeline.fail(item, error.message);
    }
    this.#model.changed(this.conversation);
  }

  /** Tells the others that the user types, or has stopped; not with every key. */
  typing(conversation, on) {
    const again = Date.now() - this.#typedAt < TYPING_EVERY;
    if (on ? again : !again) return;
    this.#typedAt = on ? Date.now() : 0;
    conversation.room?.signal("typing", on);
  }
}
