// Writing: the text field, and who else is writing.

import { $, perFrame } from "./dom.js";

export function composer(model, link) {
  const text = $("text");
  let conversation = model.current;

  const ready = () => text.value.trim() !== "";

  function fit() {
    $("send").disabled = !ready();
    if (CSS.supports("field-sizing", "content")) return;
    text.style.height = "auto";
    text.style.height = `${text.scrollHeight}px`;
  }

  function submit() {
    if (!ready()) return;
    link.send(conversation, text.value.trim());
    text.value = "";
    fit();
    text.focus();
  }

  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  text.addEventListener("keydown", (event) => {
    // isComposing: the Enter that ends the input of a Chinese or Japanese word sends nothing.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  text.addEventListener("input", () => {
    fit();
    link.typing(conversation, ready());
  });

  model.on("select", (selected) => {
    if (conversation !== selected) {
      link.typing(conversation, false);
      conversation.draft = text.value;
      text.value = selected.draft;
    }
    conversation = selected;
    const title = model.title(selected);
    const label = selected.kind === "room" ? `Message #${title}` : selected.kind === "user" ? `Message ${title}` : "Tell everybody";
    $("text-label").textContent = label;
    text.placeholder = label;
    fit();
  });
  fit();
}

export function typingLine(model) {
  const render = perFrame(() => {
    const names = [...model.current.typing.values()].map((each) => each.name);
    const line = $("typing");
    if (names.length === 0) line.textContent = "";
    else if (names.length === 1) line.textContent = `${names[0]} is typing`;
    else if (names.length === 2) line.textContent = `${names[0]} and ${names[1]} are typing`;
    else line.textContent = `${names.length} people are typing`;
  });
  model.on("typing", render);
  model.on("select", render);
}
