// The messages of the conversation in view.

import { $, el, avatar, time, day, asText, perFrame, reconcile } from "./dom.js";

const GROUP = 5 * 60_000; // ms: messages of one user closer than this share name and picture
const NEAR = 90; // px from the end that still count as "at the end"

const EMPTY = {
  room: ["Nothing said yet", "Be the first: what you write goes to everybody in this room."],
  user: ["A private conversation", "Only the two of you can read it."],
  everyone: ["To everybody at once", "A broadcast goes to all who are connected right now, in whatever room. Nothing of it is kept."],
};

export function messageLog(model, { retry, older }) {
  const log = $("log");
  const scroller = $("log-scroll");
  const nodes = new WeakMap(); // item -> {node, version}
  let shown = null; // the conversation whose messages are in the page
  let below = 0; // how many came while scrolled up

  const atEnd = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR;

  function nodeOf(item) {
    const cached = nodes.get(item);
    if (cached?.version === item.version) return cached.node;
    const node = item.kind === "system" ? el("p", { class: "system", text: item.text }) : messageNode(item);
    // Only what comes one by one moves; a page of history is just there.
    if (!cached && shown === model.current && item === model.current.timeline.last) node.classList.add("arriving");
    nodes.set(item, { node, version: item.version });
    return node;
  }

  function messageNode(item) {
    const name = item.name ?? model.name(item.userId);
    return el("article", { class: "message", "data-state": item.state, "data-own": item.own, "data-offset": item.offset },
      el("div", { class: "meta" }, el("bdi", { class: "author", text: item.own ? "You" : name }), time(item.time)),
      avatar(item.userId, name),
      el("div", { class: "bubble" }, el("p", { class: "text", text: asText(item.content) })),
      el("span", { class: "side", "aria-hidden": "true" }, item.state === "sending" ? el("span", { text: "Sending" }) : time(item.time)),
      item.state === "failed" && failure(item));
  }

  function failure(item) {
    return el("p", { class: "state" },
      el("span", { text: `Not sent: ${item.error}. ` }),
      el("button", { class: "link retry", text: "Retry", onclick: () => retry(shown, item) }));
  }

  /** All nodes of a timeline, with what stands between the messages. */
  function layout({ timeline, firstNew }) {
    const wanted = [];
    let previous = null;
    let date = null;
    for (const item of timeline.items) {
      const newDay = item.kind === "message" && day(item.time) !== date;
      // That everything is of today goes without saying.
      if (newDay && (date || day(item.time) !== "Today")) wanted.push(divider(item, "day", day(item.time)));
      if (newDay) date = day(item.time);
      if (item === firstNew) wanted.push(divider(item, "new-line", "New"));
      const node = nodeOf(item);
      const grouped = !newDay && item !== firstNew && follows(previous, item);
      if (item.kind === "message") node.classList.toggle("grouped", grouped);
      if (previous?.kind === "message") nodeOf(previous).classList.toggle("followed", grouped);
      wanted.push(node);
      previous = item;
    }
    if (previous?.kind === "message") nodeOf(previous).classList.remove("followed");
    return wanted;
  }

  const dividers = new WeakMap(); // item -> {day, new-line}
  function divider(item, className, text) {
    const made = dividers.get(item) ?? {};
    made[className] ??= el("p", { class: className, text });
    dividers.set(item, made);
    return made[className];
  }

  function follows(previous, item) {
    return previous?.kind === "message" && item.kind === "message" && previous.userId === item.userId
      && item.time - previous.time < GROUP;
  }

  function render() {
    const conversation = model.current;
    const switched = shown !== conversation;
    const stick = switched || atEnd() || conversation.timeline.last?.state === "sending";
    // A reader hears what arrives, not a whole conversation that was opened.
    if (switched) mute();
    if (stick) conversation.timeline.trim();
    const before = { height: scroller.scrollHeight, top: scroller.scrollTop, first: log.querySelector(".message") };
    const messages = switched ? 0 : log.querySelectorAll(".message").length;
    if (switched) {
      shown = conversation;
      log.dataset.conversation = conversation.key;
    }
    reconcile(log, layout(conversation));
    paintFrame(conversation);
    if (stick) toEnd();
    else keepPlace(before, messages);
  }

  let muted = 0;
  function mute() {
    log.setAttribute("aria-live", "off");
    clearTimeout(muted);
    muted = setTimeout(() => log.setAttribute("aria-live", "polite"), 500);
  }

  function paintFrame({ kind, timeline }) {
    const [title, text] = EMPTY[kind];
    $("empty").hidden = timeline.items.some((item) => item.kind === "message");
    $("empty").replaceChildren(el("strong", { text: title }), text);
    $("older").hidden = kind !== "room" || !timeline.more;
  }

  function keepPlace(before, messages) {
    const first = log.querySelector(".message");
    if (before.first && first !== before.first) {
      scroller.scrollTop = before.top + scroller.scrollHeight - before.height; // older ones came above
      return;
    }
    below += Math.max(0, log.querySelectorAll(".message").length - messages);
    paintJump();
  }

  function toEnd() {
    scroller.scrollTop = scroller.scrollHeight;
    below = 0;
    paintJump();
  }

  function paintJump() {
    $("jump").hidden = below === 0;
    $("jump").textContent = below === 1 ? "1 new message" : `${below} new messages`;
  }

  const soon = perFrame(render);
  model.on("items", (conversation) => conversation === model.current && soon());
  model.on("select", render);
  $("jump").addEventListener("click", toEnd);
  scroller.addEventListener("scroll", () => {
    if (below && atEnd()) {
      below = 0;
      paintJump();
    }
  }, { passive: true });
  new ResizeObserver(() => below === 0 && shown && stickOnResize()).observe(scroller);

  // The keyboard of a phone makes the page smaller; the end stays in view.
  let height = 0;
  function stickOnResize() {
    const shrunk = height - scroller.clientHeight;
    if (shrunk > 0 && scroller.scrollHeight - scroller.scrollTop - height < NEAR) toEnd();
    height = scroller.clientHeight;
  }

  $("older").addEventListener("click", async () => {
    $("older").disabled = true;
    try {
      await older(shown);
    } catch (error) {
      model.emit("toast", { icon: "close", title: "Older messages", text: error.message });
    }
    $("older").disabled = false;
  });
}
