// What every page needs. Text that anybody typed becomes HTML nowhere: it goes in by textContent only.

const TOAST_LASTS = 6000; // ms

export const $ = (id) => document.getElementById(id);

export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children.filter(Boolean));
  return node;
}

export const time = (ms) => el("time", { datetime: new Date(ms).toISOString(), text: new Date(ms).toLocaleString() });

export function toast(text) {
  const node = el("p", { class: "toast", text });
  $("toasts").append(node);
  setTimeout(() => node.remove(), TOAST_LASTS);
}

/** A request of the JSON service; its errors carry the `status` and the text of the service. */
export async function api(method, path, body) {
  const form = body instanceof URLSearchParams;
  const response = await fetch(`/api/${path}`, {
    method,
    headers: body && !form ? { "Content-Type": "application/json" } : {},
    body: body && !form ? JSON.stringify(body) : body,
  });
  const answer = response.status === 204 ? null : await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.error), { status: response.status });
  return answer;
}

/** Runs `act` when a form is sent, and shows its error in the form. The button waits meanwhile. */
export function onSubmit(form, act) {
  const error = form.querySelector(".error");
  const button = form.querySelector("button");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    error.textContent = "";
    button.disabled = true;
    try {
      await act();
    } catch (e) {
      error.textContent = e.message;
    }
    button.disabled = false;
  });
}
