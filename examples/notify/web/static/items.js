// Lists of notifications: in the bell, and in the inbox.

import { el, time, toast } from "./dom.js";

/** How kinds look; anything that this page does not know yet is shown as plain text. */
const KINDS = {
  "order.shipped": "Shipped",
  "order.placed": "New order",
  announcement: "From the shop",
};

/** What can be done with an item, by its state. */
const ACTIONS = {
  unread: [["read", "Mark read"], ["archive", "Archive"]],
  read: [["unread", "Mark unread"], ["archive", "Archive"]],
  archived: [["unread", "Move back"]],
};

const shown = new WeakMap(); // of each list, the rows by offset: { item, row }

/** Shows items in a list. Rows of items that have not changed stay, and so does the focus. */
export function showItems(list, items, inbox) {
  const before = shown.get(list) ?? new Map();
  const now = new Map();
  for (const item of items) {
    const old = before.get(item.offset);
    now.set(item.offset, old?.item === item ? old : { item, row: makeRow(item, inbox) });
  }
  shown.set(list, now);
  const focused = document.activeElement.closest("li");
  const place = [...list.children].indexOf(focused);
  list.replaceChildren(...[...now.values()].map(({ row }) => row));
  if (place < 0) return;
  // The row has changed, or it is gone: go on with what is in its place now.
  const next = list.children[Math.min(place, list.children.length - 1)];
  (focused.isConnected ? focused : next)?.querySelector("button").focus();
}

function makeRow(item, inbox) {
  const { kind = "", state, data, timestamp } = item;
  const act = {
    read: () => inbox.markRead(item),
    unread: () => inbox.markUnread(item),
    archive: () => inbox.archive(item),
  };
  const text = data.order
    ? el("a", { class: "text", href: `/orders/${data.order.id}`, text: data.text }) // the server marks it as read
    : el("span", { class: "text", text: data.text });
  return el("li", { class: "item", "data-kind": kind, "data-state": state },
    el("span", { class: "kind", text: KINDS[kind] ?? "News" }),
    state === "unread" && el("span", { class: "unseen", text: "unread" }),
    text,
    el("span", { class: "foot" },
      time(timestamp),
      ...ACTIONS[state].map(([action, label]) => el("button", {
        class: "link", "data-action": action, text: label, "aria-label": `${label}: ${data.text}`,
        onclick: () => act[action]().catch((error) => toast(error.message)),
      }))));
}
