// The page of one order: when something happens to it, it is loaded again, which also marks the news as read.

import { $ } from "./dom.js";
import { client } from "./shell.js";

client.on("notification", ({ data }) => {
  if (data.order?.id === Number($("order").dataset.order)) location.reload();
});
