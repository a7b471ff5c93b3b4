// The messages of one conversation, in order. What the server has confirmed
// comes first; what waits for it, or was refused, is at the end.

const MAX_ITEMS = 400; // kept of a conversation; older ones can be loaded again

const waits = (item) => item.state === "sending" || item.state === "failed";
const place = (message) => (message.offset === undefined ? null : `${message.epoch} ${message.offset}`);

let lastId = 0;

function newItem(fields) {
  return { id: ++lastId, version: 0, state: "sent", ...fields };
}

function fromMessage(message, own) {
  return newItem({
    kind: "message",
    own,
    userId: message.userId ?? message.senderId ?? "",
    name: message.username,
    content: message.type === "message" ? message.content : message.message,
    time: message.timestamp ?? Date.now(),
    epoch: message.epoch,
    offset: message.offset,
  });
}

export class Timeline {
  items = [];
  /** Whether older messages can be loaded. */
  more = false;
  #places = new Map(); // "epoch offset" -> item

  get last() { return this.items.at(-1); }

  /** The oldest offset shown; 0 if there is none. */
  get oldest() { return this.items.find((item) => item.offset !== undefined)?.offset ?? 0; }

  /** The newest position, for "seen until here". */
  get newest() {
    const item = this.items.findLast((each) => each.offset !== undefined);
    return item && { epoch: item.epoch, offset: item.offset };
  }

  /** Takes a message of the server; tells whether it is one that was not here. */
  receive(message, own) {
    const known = this.#places.get(place(message));
    if (known) {
      this.#settle(known, message);
      return false;
    }
    // The server sends an own message to its sender too, often before the ack.
    const content = own && JSON.stringify(message.content);
    const mine = own && this.items.find((item) => waits(item) && JSON.stringify(item.content) === content);
    if (mine) {
      this.#settle(mine, message);
      this.#moveUp(mine);
      return false;
    }
    this.#insert(fromMessage(message, own));
    return true;
  }

  /** Adds a message that is on its way. */
  send(me, content) {
    const item = newItem({ kind: "message", own: true, state: "sending", userId: me.id, name: me.name, content, time: Date.now() });
    this.items.push(item);
    return item;
  }

  again(item) {
    item.state = "sending";
    item.error = undefined;
    item.version++;
  }

  /** The server took a message of this page. */
  confirm(item, ack) {
    if (item.state === "sent") return; // it has come back already
    this.#settle(item, ack);
    this.#moveUp(item);
  }

  fail(item, error) {
    if (item.state === "sent") return;
    item.state = "failed";
    item.error = error;
    item.version++;
  }

  system(text) {
    this.#insert(newItem({ kind: "system", text, time: Date.now() }));
  }

  /** Replaces all that is confirmed by what the server sent. */
  replace(messages, isOwn) {
    const waiting = this.items.filter(waits);
    this.items = [];
    this.#places.clear();
    this.items.push(...waiting);
    for (const message of messages) this.receive(message, isOwn(message));
    this.more = this.oldest > 1;
  }

  /** Adds a page of older messages. */
  prepend(messages, more, isOwn) {
    const items = messages.filter((message) => !this.#places.has(place(message)))
      .map((message) => fromMessage(message, isOwn(message)));
    for (const item of items) this.#remember(item);
    this.items.unshift(...items);
    this.more = more;
  }

  /** Forgets the oldest ones of a conversation that grew long. */
  trim() {
    const excess = this.items.length - MAX_ITEMS;
    if (excess <= 0) return;
    for (const item of this.items.splice(0, excess)) this.#places.delete(place(item));
    this.more = this.oldest > 1;
  }

  /** What can be stored, and restored by `restore`. */
  snapshot(count) {
    return this.items.filter((item) => item.kind === "message").slice(-count);
  }

  restore(items) {
    for (const stored of items) {
      const item = newItem({ ...stored, id: ++lastId });
      if (item.state === "sending") Object.assign(item, { state: "failed", error: "the page was reloaded" });
      this.items.push(item);
      this.#remember(item);
    }
  }

  #settle(item, { epoch, offset, timestamp }) {
    Object.assign(item, { state: "sent", error: undefined, epoch, offset });
    if (timestamp) item.time = timestamp;
    item.version++;
    this.#remember(item);
  }

  #remember(item) {
    const key = place(item);
    if (key) this.#places.set(key, item);
  }

  #insert(item) {
    const at = this.items.findIndex(waits);
    this.items.splice(at < 0 ? this.items.length : at, 0, item);
    this.#remember(item);
  }

  #moveUp(item) {
    this.items.splice(this.items.indexOf(item), 1);
    this.#insert(item);
  }
}
