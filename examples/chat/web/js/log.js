// The messages of the conversation in view.

import { $, el, avatar, time, day, asText, perFrame, reconcile } from "./dom.js";

const GROUP = 5 * 60_000; // ms: messages of one user closer than this share name and picture
const NEAR = 90; // px from the end that still count as "at the end"

const EMPTY = {
  room: ["Nothing said yet", "Be the first: what you write goes to everybody in this room."],
  user: ["A private conversation", "Only the two of you can read it."],
  everyone: ["To everybody at once", "A broadcast goes to all who are connected right now, in whatever room. Nothing of it is kept."],
};

function follows(previous, item) {
  return previous?.kind === "message" && item.kind === "message" && previous.userId === item.userId
    && item.time - previous.time < GROUP;
}

export class MessageLog {
  #model;
  #actions;
  #list = $("log");
  #scroller = $("log-scroll");
  #nodes = new WeakMap(); // item -> {node, version}
  #dividers = new WeakMap(); // item -> {day, new-line}: what stands before it
  #shown = null; // the conversation whose messages are in the page
  #below = 0; // how many came while scrolled up
  #opening = false; // the messages were not in the page before
  #height = 0;
  #muted = 0;

  /** `actions`: `retry(conversation, item)` sends again, `older(conversation)` loads a page. */
  constructor(model, actions) {
    this.#model = model;
    this.#actions = actions;
    const soon = perFrame(() => this.#render());
    model.on("items", (conversation) => conversation === model.current && soon());
    model.on("select", () => this.#render());
    $("older").addEventListener("click", () => this.#older());
    $("jump").addEventListener("click", () => this.#toEnd());
    this.#scroller.addEventListener("scroll", () => this.#below && this.#atEnd() && this.#setBelow(0), { passive: true });
    new ResizeObserver(() => this.#resized()).observe(this.#scroller);
  }

  #render() {
    const conversation = this.#model.current;
    const { timeline } = conversation;
    const switched = this.#shown !== conversation;
    const stick = switched || this.#atEnd() || timeline.last?.state === "sending";
    if (stick) timeline.trim();
    const scroller = this.#scroller;
    const before = { height: scroller.scrollHeight, top: scroller.scrollTop, first: this.#first, count: this.#count };
    this.#opening = switched || !before.first;
    if (switched) {
      this.#mute();
      this.#shown = conversation;
      this.#list.dataset.conversation = conversation.key;
    }
    reconcile(this.#list, this.#layout(conversation));
    const [title, text] = EMPTY[conversation.kind];
    $("empty").hidden = timeline.items.some((item) => item.kind === "message");
    $("empty").replaceChildren(el("strong", { text: title }), text);
    $("older").hidden = conversation.kind !== "room" || !timeline.more;
    if (stick) this.#toEnd();
    else this.#keepPlace(before);
  }

  get #first() { return this.#list.querySelector(".message"); }
  get #count() { return this.#list.querySelectorAll(".message").length; }

  /** A screen reader reads out what arrives, but not a whole conversation that was opened. */
  #mute() {
    this.#list.setAttribute("aria-live", "off");
    clearTimeout(this.#muted);
    this.#muted = setTimeout(() => this.#list.setAttribute("aria-live", "polite"), 500);
  }

  // --- what is shown ---

  /** All nodes of a timeline, with what stands between the messages. */
  #layout({ timeline, firstNew }) {
    const wanted = [];
    let previous = null;
    let date = null;
    for (const item of timeline.items) {
      const newDay = item.kind === "message" && day(item.time) !== date;
      // That everything is of today goes without saying.
      if (newDay && (date || day(item.time) !== "Today")) wanted.push(this.#divider(item, "day", day(item.time)));
      if (newDay) date = day(item.time);
      if (item === firstNew) wanted.push(this.#divider(item, "new-line", "New"));
      const node = this.#node(item);
      const grouped = !newDay && item !== firstNew && follows(previous, item);
      if (item.kind === "message") node.classList.toggle("grouped", grouped);
      if (previous?.kind === "message") this.#node(previous).classList.toggle("followed", grouped);
      wanted.push(node);
      previous = item;
    }
    if (previous?.kind === "message") this.#node(previous).classList.remove("followed");
    return wanted;
  }

  #divider(item, className, text) {
    const made = this.#dividers.get(item) ?? {};
    made[className] ??= el("p", { class: className, text });
    this.#dividers.set(item, made);
    return made[className];
  }

  #node(item) {
    const cached = this.#nodes.get(item);
    if (cached?.version === item.version) return cached.node;
    const node = item.kind === "system" ? el("p", { class: "system", text: item.text }) : this.#message(item);
    // Only what comes one by one moves; a page of history is just there.
    const isLast = item === this.#model.current.timeline.last;
    if (!cached && isLast && !this.#opening) node.classList.add("arriving");
    this.#nodes.set(item, { node, version: item.version });
    return node;
  }

  #message(item) {
    const name = item.name ?? this.#model.name(item.userId);
    const side = item.state === "sending" ? el("span", { text: "Sending" }) : time(item.time);
    return el("article", { class: "message", "data-state": item.state, "data-own": item.own, "data-offset": item.offset },
      el("div", { class: "meta" }, el("bdi", { class: "author", text: item.own ? "You" : name }), time(item.time)),
      avatar(item.userId, name),
      el("div", { class: "bubble" }, el("p", { class: "text", text: asText(item.content) })),
      el("span", { class: "side", "aria-hidden": "true" }, side),
      item.state === "failed" && this.#failure(item));
  }

  #failure(item) {
    return el("p", { class: "state" },
      el("span", { text: `Not sent: ${item.error}. ` }),
      el("button", { class: "link retry", text: "Retry", onclick: () => this.#actions.retry(this.#shown, item) }));
  }

  async #older() {
    $("older").disabled = true;
    try {
      await this.#actions.older(this.#shown);
    } catch (error) {
      this.#model.emit("toast", { icon: "close", title: "Older messages", text: error.message });
    }
    $("older").disabled = false;
  }

  // --- where one is in it ---

  #atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    return scrollHeight - scrollTop - clientHeight < NEAR;
  }

  #toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#setBelow(0);
  }

  #keepPlace({ height, top, first, count }) {
    const olderCame = first && this.#first !== first;
    if (olderCame) this.#scroller.scrollTop = top + this.#scroller.scrollHeight - height;
    else this.#setBelow(this.#below + Math.max(0, this.#count - count));
  }

  #setBelow(count) {
    this.#below = count;
    $("jump").hidden = count === 0;
    $("jump").textContent = count === 1 ? "1 new message" : `${count} new messages`;
  }

  /** The keyboard of a phone makes the page smaller; the end stays in view. */
  #resized() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    const wasAtEnd = scrollHeight - scrollTop - this.#height < NEAR;
    if (clientHeight < this.#height && wasAtEnd) this.#toEnd();
    this.#height = clientHeight;
  }
}
