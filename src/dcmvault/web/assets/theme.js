// A theme takes effect at once, without loading the page anew; the cookie is what the server reads.

const COOKIE = "dcmvault_theme";
const A_YEAR_S = 31536000;

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("button[name=theme]");
  if (!button) return;
  event.preventDefault();
  const theme = button.value === "system" ? "" : button.value;
  const age = theme ? A_YEAR_S : 0;
  document.cookie = `${COOKIE}=${theme}; path=/; max-age=${age}; samesite=lax`;
  const root = document.documentElement;
  if (theme) root.dataset.theme = theme;
  else delete root.dataset.theme;
  document.querySelector("meta[name=color-scheme]").content = theme || "light dark";
  for (const other of document.querySelectorAll("button[name=theme]")) {
    other.setAttribute("aria-pressed", String(other === button));
  }
  document.dispatchEvent(new CustomEvent("theme"));
});
