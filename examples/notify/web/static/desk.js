// The page of the staff: announcements, and the e-mails that would be sent.

import { $, api, el, onSubmit, time, toast } from "./dom.js";
import { client } from "./shell.js";

const newId = () => crypto.getRandomValues(new Uint32Array(4)).join("-");
let id = newId(); // of the announcement in the form: the same one if sending it failed and is repeated

onSubmit($("announce-form"), async () => {
  const { customers, delivered } = await api("POST", "announcements", { id, text: $("announce-text").value });
  toast(`It is in the inboxes of ${customers} customers, and reached ${delivered} open windows.`);
  $("announce-text").value = "";
  id = newId();
});

const room = client.join("desk");
const row = ({ content, timestamp }) => el("li", {}, el("strong", { text: content.to }), el("span", { text: content.subject }), time(timestamp));

room.on("history", ({ messages }) => $("mails").replaceChildren(...messages.map(row).reverse()));
room.on("message", (message) => $("mails").prepend(row(message)));
