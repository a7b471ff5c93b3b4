// The page of the orders. They change while it is open: what a notification says about one is shown in the list, too.

import { $, api, el, onSubmit, toast } from "./dom.js";
import { client } from "./shell.js";

const staff = document.body.dataset.staff === "true";
let orders = new Map(); // by id

client.on("connected", loadOrders); // what changed while away is in the list
client.on("notification", ({ data }) => data.order && putOrder(data.order));

async function loadOrders() {
  try {
    const list = await api("GET", "orders");
    orders = new Map(list.map((order) => [order.id, order]));
    showOrders();
  } catch (error) {
    toast(`The orders could not be loaded: ${error.message}`);
  }
}

function putOrder(order) {
  orders.set(order.id, order);
  showOrders(order.id);
}

function showOrders(changed) {
  const newestFirst = [...orders.values()].sort((a, b) => b.id - a.id);
  $("orders").replaceChildren(...newestFirst.map((order) => row(order, order.id === changed)));
  $("orders-empty").hidden = orders.size > 0;
}

function row({ id, userId, item, status, placedAt, shippedAt }, changed) {
  const shipped = status === "shipped";
  const when = new Date(shippedAt ?? placedAt).toLocaleString();
  return el("li", { "data-order": id, "data-status": status, class: changed ? "changed" : "" },
    el("span", { class: "what" },
      el("a", { href: `/orders/${id}`, text: item }),
      el("small", { text: `Order ${id}${staff ? ` of ${userId}` : ""}, ${shipped ? "shipped" : "placed"} ${when}` })),
    staff && !shipped
      ? el("button", { class: "primary ship", text: "Ship", "aria-label": `Ship order ${id}`, onclick: ({ target }) => ship(id, target) })
      : el("span", { class: "badge", text: shipped ? "Shipped" : "Placed" }));
}

async function ship(id, button) {
  button.disabled = true;
  try {
    putOrder(await api("POST", `orders/${id}/ship`));
  } catch (error) {
    toast(error.message);
    loadOrders();
  }
}

if (!staff) {
  onSubmit($("order-form"), async () => {
    putOrder(await api("POST", "orders", { item: $("order-item").value }));
    $("order-item").value = "";
  });
}
