// Links: shown, copied, remembered in this browser.

import { $, button, make, say, sizeText } from "./dom.js";

const RECENT_MAX = 20;
/** Ours, or of the host name that the gateway serves objects from. */
const LINK = /^(https?:\/\/[^/]+)?\/[0-9a-f]{56}/;
let check = () => {};

async function copy(text, pressed) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Browsers offer the clipboard on https and localhost only.
    const area = make("textarea", { value: text, className: "unseen" });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    pressed.focus();
  }
  pressed.textContent = "Copied";
  say("Link copied.");
  setTimeout(() => { pressed.textContent = "Copy link"; }, 2000);
}

/** Two rows: the name and size of an object, its link with what can be done with it. */
export function linkRow(link, name, size, { checked = true } = {}) {
  const url = new URL(link, location.href).href;
  const copying = button("Copy link", (pressed) => copy(url, pressed),
    { className: "", "aria-label": `Copy the link of ${name}` });
  const checking = button("Check", () => check(url), { "aria-label": `Check ${name}` });
  return [
    make("div", { className: "row" },
      make("bdi", { className: "name" }, name), make("span", { className: "soft" }, sizeText(size))),
    make("div", { className: "row" },
      make("a", { className: "link", href: url }, url), copying, ...(checked ? [checking] : []))];
}

function remembered() {
  try {
    const kept = JSON.parse(localStorage.getItem("zerostor.links"));
    return Array.isArray(kept) ? kept.filter((entry) => LINK.test(entry.link)) : [];
  } catch { return []; }
}

export function remember(entry) {
  const others = remembered().filter((kept) => kept.link !== entry.link);
  try {
    localStorage.setItem("zerostor.links", JSON.stringify([entry, ...others].slice(0, RECENT_MAX)));
  } catch { /* a private window: the links are still on the page */ }
}

/** Show those of earlier visits. checker: what is done when one asks how a link is. */
export function showRecent(checker) {
  check = checker;
  const entries = remembered();
  $("recent").hidden = !entries.length;
  $("recent").querySelector("ul").replaceChildren(...entries.map(
    ({ link, name, size }) => make("li", {}, ...linkRow(link, String(name), Number(size) || 0))));
  $("forget").onclick = () => {
    try { localStorage.removeItem("zerostor.links"); } catch { /* nothing is kept then */ }
    showRecent(checker);
    say("Forgotten in this browser. The files are still stored.");
  };
}
