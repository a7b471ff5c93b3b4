// The panel of the nodes. What it shows comes from the parent process, which is there whatever becomes of the nodes.

import { $, el, reconcile } from "../chat/js/dom.js";

const EVERY = 1000; // ms

export function nodesPanel(model, link) {
  const cards = new Map(); // name -> {card, about, button, here}
  let latest = { nodes: [], mayKill: false, engine: "" };

  function card(name) {
    if (cards.has(name)) return cards.get(name);
    const here = el("span", { class: "here", text: "You are here" });
    const about = el("p", { class: "about" });
    const button = el("button", { class: "kill", type: "button", onclick: () => kill(name) });
    const made = {
      card: el("li", { class: "node", "data-node": name },
        el("span", { class: "dot-state", "aria-hidden": "true" }), el("span", { class: "name", text: name }), here, about, button),
      about, button, here,
    };
    cards.set(name, made);
    return made;
  }

  function paint(node) {
    const { card: item, about, button, here } = card(node.name);
    item.dataset.state = node.state;
    item.toggleAttribute("data-here", node.name === link.node);
    here.hidden = node.name !== link.node;
    setText(about, describe(node));
    setText(button, node.pid ? `kill -9 ${node.pid}` : "kill -9");
    button.disabled = !node.pid || !latest.mayKill;
    button.setAttribute("aria-label", `Kill ${node.name}`);
    return item;
  }

  function pip(node) {
    const short = node.state === "down" ? seconds(node) : node.state === "ready" ? String(node.connections) : "…";
    const here = node.name === link.node;
    return el("span", { class: "pip", "data-node": node.name, "data-state": node.state, "data-here": here },
      el("span", { class: "dot-state" }), el("span", { text: `${node.name} · ${short}` }));
  }

  function render() {
    reconcile($("nodes"), latest.nodes.map(paint));
    $("strip").replaceChildren(...latest.nodes.map(pip));
    $("strip").setAttribute("aria-label", `Nodes: ${latest.nodes.map((node) => `${node.name} ${describe(node)}`).join("; ")}`);
    setText($("engine"), latest.engine && `Behind them is ${latest.engine}.`);
    setText($("advice"), latest.mayKill
      ? "Each node is a process. Kill the one you are on, and write on: what you write waits for another node, and what the others wrote meanwhile comes."
      : "Nodes can be killed from the machine on which they run.");
  }

  async function refresh() {
    try {
      const response = await fetch("cluster");
      if (response.ok) latest = await response.json();
    } catch {
      // The parent is gone, and everything with it: the connection says so.
      for (const node of latest.nodes) Object.assign(node, { state: "down", pid: undefined, backIn: undefined });
    }
    render();
  }

  async function kill(name) {
    setText($("kill-error"), "");
    try {
      const response = await fetch(`cluster/${name}/kill`, { method: "POST" });
      if (!response.ok) setText($("kill-error"), `${name}: ${await response.text()}`);
    } catch (error) {
      setText($("kill-error"), `${name}: ${error.message}`);
    }
    refresh();
  }

  model.on("node", () => {
    render();
    refresh();
  });
  setInterval(refresh, EVERY);
  refresh();
}

const seconds = ({ backIn }) => (backIn === undefined ? "down" : `${Math.ceil(backIn / 1000)} s`);

function describe(node) {
  const words = {
    ready: `Ready, ${node.connections === 1 ? "1 connection" : `${node.connections} connections`}`,
    starting: "Starting",
    unready: `Not ready: ${node.problem}`,
    down: node.backIn === undefined ? "Down" : `Down, back in ${seconds(node)}`,
  };
  const restarts = node.restarts === 0 ? "" : node.restarts === 1 ? ", restarted once" : `, restarted ${node.restarts} times`;
  return words[node.state] + restarts;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
