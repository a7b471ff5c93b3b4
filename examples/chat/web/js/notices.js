// Notifications, reminders and toasts.

import { $, el, icon, time, asText } from "./dom.js";

const TOAST_LASTS = 6000; // ms
const MAX_TOASTS = 3;

export function bell(model, link) {
  const panel = $("bell-panel");
  const button = $("bell");

  function render() {
    const { notifications, unreadNotifications: unread } = model;
    $("bell-count").hidden = unread === 0;
    $("bell-count").textContent = unread > 99 ? "99+" : String(unread);
    button.setAttribute("aria-label", unread ? `Notifications, ${unread} unread` : "Notifications");
    $("notifications-empty").hidden = notifications.length > 0;
    if (!panel.hidden) $("notifications").replaceChildren(...notifications.map(row));
  }

  function row(notification) {
    return el("li", { class: "notification", "data-fresh": notification.fresh },
      icon("clock"), el("p", { class: "text", text: asText(notification.text) }), time(notification.time));
  }

  function toggle(open) {
    if (open === !panel.hidden) return;
    panel.hidden = !open;
    button.setAttribute("aria-expanded", String(open));
    if (open) {
      model.markNotificationsRead();
      panel.focus();
    } else {
      for (const notification of model.notifications) notification.fresh = false;
      if (panel.contains(document.activeElement) || document.activeElement === document.body) button.focus();
    }
  }

  button.addEventListener("click", () => toggle(panel.hidden));
  $("bell-close").addEventListener("click", () => toggle(false));
  document.addEventListener("keydown", (event) => event.key === "Escape" && toggle(false));
  document.addEventListener("pointerdown", (event) => {
    if (!panel.contains(event.target) && !button.contains(event.target)) toggle(false);
  });
  model.on("notifications", () => {
    if (!panel.hidden && model.unreadNotifications) model.unreadNotifications = 0; // being looked at
    render();
  });
  remindForm(link);
  render();
  return { open: () => toggle(true), isOpen: () => !panel.hidden };
}

function remindForm(link) {
  $("remind-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = $("remind-text").value.trim();
    const delay = $("remind-delay");
    $("remind-submit").disabled = true;
    $("remind-status").textContent = "";
    try {
      await link.remind(Number(delay.value), text);
      $("remind-status").textContent = `You will hear of it ${delay.selectedOptions[0].text}.`;
    } catch (error) {
      $("remind-status").textContent = `That did not work: ${error.message}.`;
    }
    $("remind-submit").disabled = false;
  });
}

/** `follow` is called with the toast that was clicked; `hide` tells which are not needed. */
export function toasts(model, { follow, hide }) {
  const list = $("toasts");

  model.on("toast", (toast) => {
    if (hide(toast)) return;
    const close = el("button", { class: "icon", "aria-label": "Dismiss", onclick: remove }, icon("close"));
    const body = el("button", { class: "toast-body", onclick: choose },
      el("strong", { text: toast.title }), el("span", { text: asText(toast.text) }));
    const node = el("div", { class: "toast", onpointerenter: stop, onpointerleave: start, onfocusin: stop, onfocusout: start },
      icon(toast.icon), body, close);
    let timer;

    function remove() {
      clearTimeout(timer);
      node.remove();
    }
    function choose() {
      remove();
      follow(toast);
    }
    function stop() { clearTimeout(timer); }
    function start() {
      clearTimeout(timer);
      timer = setTimeout(remove, TOAST_LASTS);
    }

    while (list.children.length >= MAX_TOASTS) list.firstElementChild.remove();
    list.append(node);
    start();
  });
}
