// The two lists beside the messages: conversations and people.

import { $, el, icon, avatar, paintAvatar, perFrame, reconcile } from "./dom.js";

const MAX_PEOPLE = 200; // shown of a room

/** `choose` is called with the conversation that was clicked. */
export function conversationList(model, choose) {
  const rows = new Map(); // key -> {item, button, label, badge}

  function row(conversation) {
    const { key, kind, id } = conversation;
    if (rows.has(key)) return rows.get(key);
    const label = el("bdi", { class: "label" });
    const badge = el("span", { class: "unread" });
    const mark = kind === "user" ? avatar(id, "", "small") : icon(kind === "room" ? "hash" : "megaphone");
    const button = el("button", { "data-conversation": key, onclick: () => choose(conversation) }, mark, label, badge);
    const made = { item: el("li", {}, button), button, label, badge, mark };
    rows.set(key, made);
    return made;
  }

  function paint(conversation) {
    const { item, button, label, badge, mark } = row(conversation);
    const title = model.title(conversation);
    const { unread, kind, id } = conversation;
    if (label.textContent !== title) label.textContent = title;
    if (kind === "user") {
      paintAvatar(mark, id, title);
      button.classList.toggle("away", !model.isHere(id));
    }
    button.setAttribute("aria-current", String(conversation === model.current));
    button.dataset.unread = String(unread > 0);
    badge.hidden = unread === 0;
    badge.textContent = unread > 99 ? "99+" : String(unread);
    badge.setAttribute("aria-label", `${unread} unread`);
    return item;
  }

  const render = perFrame(() => {
    for (const key of rows.keys()) if (!model.conversations.has(key)) rows.delete(key);
    reconcile($("everyone-list"), [paint(model.everyone)]);
    reconcile($("room-list"), model.rooms.map(paint));
    reconcile($("private-list"), model.privates.map(paint));
    $("private-heading").hidden = model.privates.length === 0;
    $("menu-dot").hidden = model.unread === 0;
    document.title = model.unread ? `(${model.unread}) Parley chat` : "Parley chat";
  });
  for (const event of ["list", "select", "people", "me"]) model.on(event, render);
  render();
}

/** `choose` is called with the id of the user that was clicked. */
export function peopleList(model, choose) {
  const rows = new Map(); // user id -> {item, label, mark}

  function row(userId, own) {
    const label = el("bdi", { class: "label" });
    const mark = avatar(userId, "", "small");
    const button = el("button", {
      "data-user": userId, disabled: own, title: own ? null : "Write privately", onclick: () => choose(userId),
    }, mark, label, own && el("small", { text: "you" }));
    return { item: el("li", {}, button), label, mark };
  }

  function paint({ userId, username }) {
    const own = userId === model.me.id;
    if (!rows.has(userId)) rows.set(userId, row(userId, own));
    const { item, label, mark } = rows.get(userId);
    if (label.textContent !== username) {
      label.textContent = username;
      paintAvatar(mark, userId, username);
    }
    return item;
  }

  const render = perFrame(() => {
    const people = model.people(model.current);
    for (const userId of rows.keys()) if (!people.has(userId)) rows.delete(userId);
    const sorted = [...people.values()].sort((a, b) => (
      (b.userId === model.me.id) - (a.userId === model.me.id) || a.username.localeCompare(b.username)));
    reconcile($("people-list"), sorted.slice(0, MAX_PEOPLE).map(paint));
    const count = model.count(model.current);
    const rest = count - Math.min(sorted.length, MAX_PEOPLE);
    $("people-count").textContent = count || "";
    $("people-hint").textContent = rest > 0 ? `and ${rest} more` : hint(count);
  });

  const hint = (count) => (count > 1 ? "Choose somebody to write to them privately."
    : "Open this page in a second window to have somebody to talk to.");

  for (const event of ["people", "select", "me"]) model.on(event, () => {
    // Rows know whether they are the own one.
    if (event === "me") rows.clear();
    render();
  });
}
