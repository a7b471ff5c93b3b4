// The page of the inbox: everything that is kept, older pages on demand.

import { $, toast } from "./dom.js";
import { inbox } from "./shell.js";
import { showItems } from "./items.js";

const FILTERS = {
  all: ({ state }) => state !== "archived",
  unread: ({ state }) => state === "unread",
  archived: ({ state }) => state === "archived",
};
const buttons = document.querySelectorAll("[data-show]");
let filter = "all";

function show() {
  const items = inbox.items.filter(FILTERS[filter]);
  showItems($("items"), items, inbox);
  $("items-empty").hidden = items.length > 0;
  $("inbox-count").textContent = `${inbox.unread} unread`;
  $("read-all").disabled = inbox.unread === 0;
  $("older").hidden = !inbox.hasMore;
  $("truncated").hidden = inbox.truncated === undefined;
}

const tell = (error) => toast(error.message);

inbox.on("change", show);
for (const button of buttons) {
  button.addEventListener("click", () => {
    filter = button.dataset.show;
    for (const each of buttons) each.setAttribute("aria-pressed", each === button);
    show();
  });
}
$("read-all").addEventListener("click", () => inbox.markRead().catch(tell));
$("older").addEventListener("click", () => inbox.more().catch(tell));
// What was removed is read, as far as anybody can tell. The hint goes away on all devices when they connect again.
$("truncated-ok").addEventListener("click", () => inbox.markRead({ upTo: inbox.truncated }).catch(tell));
