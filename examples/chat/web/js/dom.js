// Small helpers around the DOM. Text goes in by textContent only, so nothing
// that anybody types can become HTML.

export const $ = (id) => document.getElementById(id);

/**
 * Makes an element. `props`: `class`, `text`, handlers as `onclick`, and any
 * attribute; null, undefined and false leave the attribute out.
 */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter(Boolean));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/** The coloured circle of a user. The colour comes from the id: two users of one name look different. */
export function avatar(userId, name, className = "") {
  const node = el("span", { class: `avatar ${className}`.trim(), "aria-hidden": "true" });
  paintAvatar(node, userId, name);
  return node;
}

export function paintAvatar(node, userId, name) {
  const [first = "?"] = new Intl.Segmenter().segment(name.trim() || "?");
  node.textContent = first.segment.toUpperCase();
  node.style.setProperty("--hue", hue(userId));
}

function hue(text) {
  let hash = 2166136261; // FNV-1a
  for (const char of text) hash = Math.imul(hash ^ char.codePointAt(0), 16777619);
  return (hash >>> 0) % 24 * 15;
}

/** Gives `parent` exactly these children, touching only what differs. */
export function reconcile(parent, wanted) {
  const keep = new Set(wanted);
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  let next = parent.firstElementChild;
  for (const node of wanted) {
    if (node === next) next = next.nextElementSibling;
    else parent.insertBefore(node, next);
  }
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const longDay = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export function time(ms) {
  const date = new Date(ms);
  return el("time", { datetime: date.toISOString(), title: full.format(date), text: clock.format(date) });
}

export function day(ms) {
  const date = new Date(ms);
  const today = new Date();
  if (date.toDateString() === today.toDateString()) return "Today";
  today.setDate(today.getDate() - 1);
  return date.toDateString() === today.toDateString() ? "Yesterday" : longDay.format(date);
}

const MAX_SHOWN = 20_000;

/** What to show of a message: other clients may send any JSON. */
export function asText(content) {
  const text = typeof content === "string" ? content : JSON.stringify(content, null, 2) ?? "";
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text;
}

/** `fn`, called once per frame however often it is asked for. Hidden pages have no frames, so they get a timer. */
export function perFrame(fn) {
  let waiting = false;
  const run = () => {
    waiting = false;
    fn();
  };
  return () => {
    if (waiting) return;
    waiting = true;
    if (document.hidden) setTimeout(run, 100);
    else requestAnimationFrame(run);
  };
}
