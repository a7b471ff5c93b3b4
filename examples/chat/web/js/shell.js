// The frame around the conversation: heading, connection state, drawers, name.

import { $, paintAvatar, perFrame } from "./dom.js";

export function heading(model) {
  const render = perFrame(() => {
    const conversation = model.current;
    const { kind, id } = conversation;
    const title = model.title(conversation);
    $("title").textContent = kind === "room" ? `#${title}` : title;
    $("subtitle").textContent = subtitle(kind, id, model.count(conversation));
    $("leave").hidden = kind !== "room";
  });

  function subtitle(kind, id, count) {
    if (kind === "everyone") return "A broadcast to all who are connected";
    if (kind === "user") return model.isHere(id) ? "Private, here now" : "Private, not here right now";
    return count === 1 ? "Just you so far" : count > 1 ? `${count} people here` : "";
  }

  for (const event of ["select", "people", "me"]) model.on(event, render);
  model.on("me", () => {
    $("me").textContent = model.me.name;
    paintAvatar($("me-avatar"), model.me.id, model.me.name);
  });
}

/** Shows the state of the connection; returns the function to tell it. */
export function connection() {
  let ticking = 0;

  function paint(name, words, notice, canRetry) {
    document.body.dataset.connection = name;
    $("connection").textContent = words;
    $("notice").hidden = !notice;
    $("notice-text").textContent = notice;
    $("retry-now").hidden = !canRetry;
  }

  function waiting(due) {
    if (!navigator.onLine) {
      paint("offline", "Offline", "You are offline. What you write is sent when you are back.", false);
      return;
    }
    const seconds = Math.max(1, Math.ceil((due - Date.now()) / 1000));
    paint("reconnecting", "Reconnecting", `Connection lost. Trying again in ${seconds} s.`, false);
  }

  let wasConnected = false;
  return ({ state, retryIn = 0, reason }) => {
    clearInterval(ticking);
    if (state === "connected") {
      wasConnected = true;
      paint("connected", "Connected", "", false);
    } else if (state === "connecting") {
      if (wasConnected) paint("reconnecting", "Reconnecting", "Connection lost. Trying again now.", false);
      else paint("connecting", "Connecting", "", false);
    } else if (state === "waiting") {
      wasConnected = true;
      const due = Date.now() + retryIn;
      waiting(due);
      ticking = setInterval(() => waiting(due), 500);
    } else {
      paint("closed", "Disconnected", reason ? `The server ended the connection: ${reason}.` : "The server ended the connection.", true);
    }
  };
}

const NARROW = { sidebar: "(max-width: 759px)", people: "(max-width: 1099px)" };
const TOGGLES = { sidebar: "menu-toggle", people: "people-toggle" };

/** The two side columns of narrow screens. Returns the function that closes them. */
export function drawers() {
  const isOpen = (name) => document.body.dataset.drawer === name;

  function show(name) {
    const before = document.body.dataset.drawer;
    if (name) document.body.dataset.drawer = name;
    else delete document.body.dataset.drawer;
    $("scrim").hidden = !name;
    for (const [each, toggle] of Object.entries(TOGGLES)) $(toggle).setAttribute("aria-expanded", String(each === name));
    for (const part of $("app").children) part.inert = Boolean(name) && part.id !== name;
    if (name) $(name).querySelector("button:not([disabled])")?.focus();
    else if (before) $(TOGGLES[before]).focus();
  }

  for (const [name, toggle] of Object.entries(TOGGLES)) {
    $(toggle).addEventListener("click", () => show(isOpen(name) ? null : name));
    // A window that grows shows the column anyway.
    matchMedia(NARROW[name]).addEventListener("change", () => isOpen(name) && show(null));
  }
  const close = () => document.body.dataset.drawer && show(null);
  $("scrim").addEventListener("click", close);
  $("people-close").addEventListener("click", close);
  document.addEventListener("keydown", (event) => event.key === "Escape" && close());
  return close;
}

/** Asks for a name; resolves to it, or to null if there was one and the user keeps it. */
export function askName(current, isNew) {
  const dialog = $("welcome");
  const input = $("name-input");
  $("welcome-title").textContent = isNew ? "Welcome" : "Change your name";
  $("name-submit").textContent = isNew ? "Start chatting" : "Save";
  $("name-error").textContent = "";
  input.value = current;
  dialog.showModal();
  input.select();
  return new Promise((resolve) => {
    const done = new AbortController();
    const finish = (name) => {
      done.abort();
      dialog.close();
      resolve(name);
    };
    dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      if (!isNew) finish(null);
    }, { signal: done.signal });
    $("name-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const name = input.value.trim();
      if (name) finish(name);
      else $("name-error").textContent = "A name has at least one letter.";
    }, { signal: done.signal });
  });
}
