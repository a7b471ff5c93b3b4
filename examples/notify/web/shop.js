// The page: login, orders, bell. What anybody typed goes in by textContent only.

import { connect } from "./parley.js";

const $ = (id) => document.getElementById(id);
const TOAST_LASTS = 6000; // ms

function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children.filter(Boolean));
  return node;
}

/** A request of the JSON service; its errors carry the `status` and the text of the service. */
async function api(method, path, body) {
  const form = body instanceof URLSearchParams;
  const response = await fetch(path, {
    method,
    headers: body && !form ? { "Content-Type": "application/json" } : {},
    body: body && !form ? JSON.stringify(body) : body,
  });
  const answer = response.status === 204 ? null : await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.error), { status: response.status });
  return answer;
}

let me = null;
let client = null;
let orders = new Map(); // by id

// --- realtime ---

const STATES = { connecting: "Connecting", connected: "Live", waiting: "Reconnecting", closed: "Logged out", unauthorized: "Logged out" };

function listen() {
  // The cookie is the credential and goes along by itself. A browser does not tell a page that its WebSocket
  // was refused for want of a login, so the service is asked before each attempt; status 401 ends the client.
  client = connect("realtime", { token: async () => { await api("GET", "api/me"); } });
  client.on("state", ({ state }) => {
    document.body.dataset.connection = state;
    $("status").textContent = STATES[state];
    if (state === "closed" || state === "unauthorized") leave();
  });
  client.on("connected", loadOrders); // what changed while away is in the list
  client.on("inbox", renderBell);
  client.on("notification", ({ data }) => {
    renderBell();
    toast(describe(data));
    if (data.order) putOrder(data.order);
  });
}

function describe(data) {
  if (data.kind === "order.shipped") return `Your order ${data.order.id}, ${data.order.item}, is on its way.`;
  if (data.kind === "order.placed") return `New order ${data.order.id}: ${data.order.item}.`;
  return "Something new happened.";
}

function toast(text) {
  const node = el("p", { class: "toast", text });
  $("toasts").append(node);
  setTimeout(() => node.remove(), TOAST_LASTS);
}

function renderBell() {
  const open = !$("bell-panel").hidden;
  if (open) client.markRead();
  $("bell-count").hidden = client.unread === 0;
  $("bell-count").textContent = String(client.unread);
  $("bell").setAttribute("aria-label", client.unread ? `Notifications, ${client.unread} unread` : "Notifications");
  $("notifications-empty").hidden = client.notifications.length > 0;
  $("notifications").replaceChildren(...client.notifications.toReversed().map(({ data, timestamp }) => (
    el("li", { text: describe(data) }, el("time", { text: new Date(timestamp).toLocaleString() })))));
}

function toggleBell(open) {
  if (open !== $("bell-panel").hidden) return;
  $("bell-panel").hidden = !open;
  $("bell").setAttribute("aria-expanded", String(open));
  if (!client) return;
  renderBell();
  if (open) $("bell-panel").focus();
}

// --- orders ---

async function loadOrders() {
  try {
    const list = await api("GET", "api/orders");
    orders = new Map(list.map((order) => [order.id, order]));
    renderOrders();
  } catch (error) {
    if (error.status === 401) leave();
    else toast(`The orders could not be loaded: ${error.message}`);
  }
}

function putOrder(order) {
  orders.set(order.id, order);
  renderOrders(order.id);
}

function renderOrders(changed) {
  const newestFirst = [...orders.values()].sort((a, b) => b.id - a.id);
  $("orders").replaceChildren(...newestFirst.map((order) => row(order, order.id === changed)));
  $("orders-empty").hidden = orders.size > 0;
}

function row(order, changed) {
  const shipped = order.status === "shipped";
  const when = new Date(order.shippedAt ?? order.placedAt).toLocaleString();
  return el("li", { "data-order": order.id, "data-status": order.status, class: changed ? "changed" : "" },
    el("span", { class: "what", text: order.item },
      el("small", { text: `Order ${order.id}${me.staff ? ` of ${order.userId}` : ""}, ${shipped ? "shipped" : "placed"} ${when}` })),
    me.staff && !shipped
      ? el("button", { class: "primary ship", text: "Ship", onclick: (event) => ship(order.id, event.target) })
      : el("span", { class: "badge", text: shipped ? "Shipped" : "Placed" }));
}

async function ship(id, button) {
  button.disabled = true;
  try {
    const { order, notified } = await api("POST", `api/orders/${id}/ship`);
    putOrder(order);
    const { delivered } = notified;
    toast(delivered === 0 ? "Shipped. The customer will hear of it when they come back."
      : `Shipped. The customer was told in ${delivered} ${delivered === 1 ? "window" : "windows"}.`);
  } catch (error) {
    toast(error.message);
    loadOrders();
  }
}

// --- login ---

function enter(user) {
  me = user;
  $("user").textContent = user.name;
  $("order-form").hidden = user.staff;
  $("orders-title").textContent = user.staff ? "Orders of everybody" : "Your orders";
  document.body.dataset.view = "shop";
  listen();
}

function leave() {
  client?.close();
  client = null;
  me = null;
  toggleBell(false);
  $("notifications").replaceChildren();
  document.body.dataset.view = "login";
}

async function login(name) {
  $("login-error").textContent = "";
  try {
    enter(await api("POST", "api/login", new URLSearchParams({ name })));
  } catch (error) {
    $("login-error").textContent = error.message;
  }
}

$("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  login($("login-name").value.trim().toLowerCase());
});
for (const button of document.querySelectorAll("[data-login]")) {
  button.addEventListener("click", () => login(button.dataset.login));
}
$("logout").addEventListener("click", async () => {
  try {
    await api("POST", "api/logout");
    leave();
  } catch (error) {
    toast(error.message);
  }
});
$("order-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("order-error").textContent = "";
  try {
    putOrder(await api("POST", "api/orders", { item: $("order-item").value }));
    $("order-item").value = "";
  } catch (error) {
    $("order-error").textContent = error.message;
  }
});
$("bell").addEventListener("click", () => toggleBell($("bell-panel").hidden));
document.addEventListener("keydown", (event) => event.key === "Escape" && toggleBell(false));

try {
  enter(await api("GET", "api/me"));
} catch {
  leave();
}
