// Puts the parts of the page together. Those of the chat are used as they are: one room is in view, always.

import { $, el, avatar, paintAvatar, perFrame } from "../chat/js/dom.js";
import { Model } from "../chat/js/model.js";
import { MessageLog } from "../chat/js/log.js";
import { composer, typingLine } from "../chat/js/composer.js";
import { askName, connection, drawers } from "../chat/js/shell.js";
import { saved } from "../chat/js/storage.js";
import { Link } from "./link.js";
import { nodesPanel } from "./nodes.js";

const ROOM = "lobby";

const model = new Model();
const link = new Link(model, ROOM, connection());
model.select(link.conversation);

function heading() {
  const render = perFrame(() => {
    const count = model.count(link.conversation);
    const people = count > 1 ? `${count} people here` : "just you so far";
    $("title").textContent = `#${ROOM}`;
    $("subtitle").textContent = link.node ? `You are on ${link.node}, ${people}` : "Looking for a node";
  });
  model.on("people", render);
  model.on("node", render);
  model.on("me", () => {
    $("me").textContent = model.me.name;
    paintAvatar($("me-avatar"), model.me.id, model.me.name);
  });
  render();
}

function peopleList() {
  const render = perFrame(() => {
    const own = ({ userId }) => userId === model.me.id;
    const people = [...model.people(link.conversation).values()];
    people.sort((a, b) => own(b) - own(a) || a.username.localeCompare(b.username));
    $("people-list").replaceChildren(...people.map((each) => el("li", { "data-user": each.userId },
      avatar(each.userId, each.username, "small"), el("bdi", { text: each.username }), own(each) && el("small", { text: "you" }))));
    const count = model.count(link.conversation);
    $("people-count").textContent = count || "";
    $("people-hint").textContent = count > people.length ? `and ${count - people.length} more`
      : count > 1 ? "Whichever node they are on: each knows all." : "Open this page in a second window: it gets to another node.";
  });
  for (const event of ["people", "me"]) model.on(event, render);
}

const closeDrawers = drawers();
heading();
peopleList();
composer(model, link);
typingLine(model);
new MessageLog(model, { retry: (_, item) => link.retry(item), older: () => link.older() });
nodesPanel(model, link);
$("strip").addEventListener("click", () => $("menu-toggle").click());
$("sidebar-close").addEventListener("click", closeDrawers);
$("retry-now").addEventListener("click", () => location.reload());
document.addEventListener("visibilitychange", () => model.markSeen());
model.select(link.conversation); // now that all parts listen
document.body.dataset.ready = "true";

if (!saved.entered || !saved.name) {
  saved.name = await askName(saved.name, true);
  saved.entered = true;
}
link.start(saved.name);
