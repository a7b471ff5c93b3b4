// The connection of a page, its inbox, and the bar with the bell. Every page but the login imports it.

import { connect } from "/parley.js";
import { openInbox } from "/parley-inbox.js";
import { $, api, toast } from "./dom.js";
import { showItems } from "./items.js";

const STATES = { connecting: "Connecting", connected: "Live", waiting: "Reconnecting", closed: "Logged out", unauthorized: "Logged out" };
const IN_BELL = 6;

// The cookie is the credential and goes along by itself. A browser does not tell a page that its WebSocket
// was refused for want of a login, so the service is asked before each attempt; status 401 ends the client.
export const client = connect("/realtime", { token: async () => void (await api("GET", "me")) });
export const inbox = openInbox(client, { limit: 20 });

client.on("state", ({ state }) => {
  document.body.dataset.connection = state;
  $("status").textContent = STATES[state];
  if (state === "closed" || state === "unauthorized") location.assign("/login");
});
client.on("notification", ({ data }) => toast(data.text));

// ---- the bell ----

let known = Number(document.body.dataset.unread); // the count that is shown: at first that which the server put into the page

function showCount() {
  const { unread } = inbox;
  if (unread === known) return;
  $("bell-count").hidden = unread === 0;
  $("bell-count").textContent = unread > 99 ? "99+" : unread;
  $("bell-says").textContent = unread === 1 ? "1 unread notification" : `${unread} unread notifications`;
  $("bell").setAttribute("aria-label", unread ? `Notifications, ${unread} unread` : "Notifications");
  document.title = `${unread ? `(${unread}) ` : ""}${document.body.dataset.title}`;
  known = unread;
}

function showBell() {
  if (inbox.version) showCount();
  const items = inbox.items.filter(({ state }) => state !== "archived").slice(0, IN_BELL);
  showItems($("bell-items"), items, inbox);
  $("bell-empty").hidden = items.length > 0;
  $("bell-read-all").disabled = inbox.unread === 0;
}

function openBell(open) {
  if (open !== $("bell-panel").hidden) return;
  $("bell-panel").hidden = !open;
  $("bell").setAttribute("aria-expanded", open);
  (open ? $("bell-panel") : $("bell")).focus();
}

inbox.on("change", showBell);
$("bell").addEventListener("click", () => openBell($("bell-panel").hidden));
$("bell-read-all").addEventListener("click", () => inbox.markRead().catch((error) => toast(error.message)));
document.addEventListener("keydown", ({ key }) => key === "Escape" && openBell(false));
document.addEventListener("click", ({ target }) => {
  // What was clicked may be gone by now: a button of a row that has changed is in the page no more.
  if (target.isConnected && !target.closest("#bell-panel, #bell")) openBell(false);
});

$("logout").addEventListener("click", async () => {
  try {
    await api("POST", "logout");
    location.assign("/login");
  } catch (error) {
    toast(error.message);
  }
});
