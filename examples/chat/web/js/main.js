// Puts the parts of the page together.

import { $ } from "./dom.js";
import { Model } from "./model.js";
import { Link } from "./link.js";
import { saved } from "./storage.js";
import { conversationList, peopleList } from "./lists.js";
import { MessageLog } from "./log.js";
import { composer, typingLine } from "./composer.js";
import { bell, toasts } from "./notices.js";
import { askName, connection, drawers, heading } from "./shell.js";

const model = new Model();
const link = new Link(model, connection());
const closeDrawers = drawers();

/** Shows a conversation. Its address makes "back" work; `remember` is replaceState when there is nothing to go back to. */
function show(conversation, remember = "pushState") {
  model.select(conversation);
  const hash = `#${encodeURIComponent(conversation.key)}`;
  if (location.hash !== hash) history[remember](null, "", hash);
  closeDrawers();
  // On a phone the keyboard would cover what one came to read.
  if (matchMedia("(pointer: fine)").matches) $("text").focus();
}

/** The conversation that the address names; a room in it is joined. */
function fromAddress() {
  let key = "";
  try {
    key = decodeURIComponent(location.hash.slice(1));
  } catch {
    // Not one of our addresses.
  }
  const conversation = model.conversations.get(key);
  const room = key.startsWith("room:") ? key.slice("room:".length).trim().slice(0, 32) : "";
  return conversation ?? (room ? link.join(room) : model.rooms[0] ?? model.everyone);
}

function listen() {
  conversationList(model, (each) => show(each));
  peopleList(model, (userId) => show(model.open("user", userId)));
  heading(model);
  composer(model, link);
  typingLine(model);
  new MessageLog(model, {
    retry: (conversation, item) => link.retry(conversation, item),
    older: (conversation) => link.older(conversation),
  });
  const notifications = bell(model, link);
  toasts(model, {
    follow({ conversation, icon }) {
      if (conversation) show(conversation);
      else if (icon === "bell") notifications.open();
    },
    hide: ({ icon }) => icon === "bell" && notifications.isOpen(),
  });

  $("room-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = $("room-input").value.replace(/^[#\s]+/, "").trim();
    if (!name) return;
    $("room-input").value = "";
    show(link.join(name));
  });
  $("leave").addEventListener("click", () => {
    link.leave(model.current);
    show(model.current, "replaceState");
  });
  $("retry-now").addEventListener("click", () => link.start(saved.name));
  $("rename").addEventListener("click", rename);
  window.addEventListener("popstate", () => show(fromAddress(), "replaceState"));
  document.addEventListener("visibilitychange", () => model.markSeen());
  window.addEventListener("pagehide", () => model.savePrivates());
}

async function rename() {
  const name = await askName(saved.name, false);
  if (name && name !== saved.name) enter(name);
}

function enter(name) {
  saved.name = name;
  saved.entered = true;
  model.setMe(model.me.id, name);
  link.start(name);
}

model.restorePrivates();
listen();
document.body.dataset.ready = "true";
enter(saved.entered && saved.name ? saved.name : await askName(saved.name, true));
show(fromAddress(), "replaceState");
