import { $, api, onSubmit } from "./dom.js";

onSubmit($("login-form"), async () => {
  await api("POST", "login", new URLSearchParams({ name: $("login-name").value.trim().toLowerCase() }));
  location.assign("/");
});
for (const button of document.querySelectorAll("[data-login]")) {
  button.addEventListener("click", () => {
    $("login-name").value = button.dataset.login;
    $("login-form").requestSubmit();
  });
}
