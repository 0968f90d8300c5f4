// Dialogs and toasts. What is fetched into #dialog-body is shown as a dialog; the server says a
// toast with the header HX-Trigger: {"toast": {"words": "..."}}.

const TOAST_MS = 6000;

document.addEventListener("htmx:afterSwap", (event) => {
  const dialog = document.getElementById("dialog");
  if (event.target.id !== "dialog-body" || dialog.open) return;
  event.target.querySelector("h1, h2")?.setAttribute("id", "dialog-title");
  dialog.showModal();
});

document.addEventListener("click", (event) => {
  // Beside a dialog is out of it.
  if (event.target instanceof HTMLDialogElement) event.target.close();
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

for (const failed of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(failed, (event) => {
    // A page that brings itself up to date tries again by itself.
    if (event.detail.requestConfig?.headers["X-Unasked"]) return;
    document.dispatchEvent(new CustomEvent("toast", { detail: { template: "toast-failed" } }));
  });
}

document.addEventListener("toast", (event) => {
  const { words, template } = event.detail;
  const toast = document.createElement("div");
  toast.className = "toast";
  if (template) toast.append(document.getElementById(template).content.cloneNode(true));
  else toast.textContent = words;
  document.getElementById("toasts").append(toast);
  setTimeout(() => toast.remove(), TOAST_MS);
});
