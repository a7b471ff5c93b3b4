// A document for react-dom, and helpers to render components and to look at what they show.
import { Window } from "happy-dom";
import { tick } from "./harness.js";

const window = new Window({ url: "http://page.test/" });
for (const name of ["window", "document", "navigator", "HTMLElement", "HTMLIFrameElement", "Element", "Node", "Event"]) {
  globalThis[name] ??= name === "window" ? window : window[name];
}
globalThis.IS_REACT_ACT_ENVIRONMENT = true;

const { act, createElement: h, StrictMode } = await import("react");
const { createRoot, hydrateRoot } = await import("react-dom/client");

export { act, h, hydrateRoot };

/** A root in the document. `errors` collects what components have thrown. */
export function root(options = {}) {
  const container = document.createElement("div");
  document.body.append(container);
  const errors = [];
  const onError = (e) => errors.push(e);
  const made = createRoot(container, { onUncaughtError: onError, onRecoverableError: onError, ...options });
  return {
    container,
    errors,
    render: (element) => act(() => made.render(element)),
    unmount: () => act(() => made.unmount()),
  };
}

/** Between the last component that uses a room and its leave, in ms. */
export const GRACE = 1000;
/** The types of the messages of the client. */
export const types = (s) => s.sent.map((m) => m.type);
/** What the server says, and time, as React wants it in tests. */
export const say = (s, ...messages) => act(async () => s.say(...messages));
export const pass = (ms) => act(() => tick(ms));
export const strict = (...children) => h(StrictMode, null, ...children);

/** A component that notes what a hook gives it at every render. */
export function probe(hook) {
  const seen = [];
  const Probe = (props) => {
    const value = hook(props);
    seen.push(value);
    return value.messages?.map((m) => h("p", { key: m.offset }, String(m.content))) ?? null;
  };
  return { Probe, seen, now: () => seen.at(-1) };
}
