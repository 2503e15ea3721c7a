// Dark or light: what the person chose here, else what the system says. Loaded before the page is drawn.
(() => {
  const KEPT = "zerostor.theme", ROUND = { auto: "light", light: "dark", dark: "auto" };
  const root = document.documentElement;
  let theme = "auto";
  try { theme = localStorage.getItem(KEPT) ?? theme; } catch { /* a private window */ }
  function use(chosen) {
    theme = chosen in ROUND ? chosen : "auto";
    root.dataset.theme = theme;
  }
  function show(button) {
    button.textContent = { auto: "◐", light: "☀", dark: "☾" }[theme];
    const name = { auto: "as the system", light: "light", dark: "dark" }[theme];
    button.setAttribute("aria-label", `Colours: ${name}`);
    button.title = `Colours: ${name}`;
  }
  use(theme);
  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    show(button);
    button.onclick = () => {
      use(ROUND[theme]);
      try { localStorage.setItem(KEPT, theme); } catch { /* until the page is loaded anew */ }
      show(button);
    };
  });
})();
