// Nodes and texts. What came from elsewhere becomes text here, never markup.

export const $ = (id) => document.getElementById(id);

export function make(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export const soft = (...text) => make("p", { className: "soft" }, ...text);

/** A button that does `action`; while it runs it cannot be pressed again, what fails is said on it. */
export function button(text, action, props = {}) {
  const made = make("button", { type: "button", className: "quiet", ...props }, text);
  made.onclick = async () => {
    made.setAttribute("aria-disabled", "true");
    const pressed = made.onclick;
    made.onclick = null;
    try { await action(made); } catch (error) {
      made.textContent = `${error.message} Try again`;
      made.removeAttribute("aria-label");
    }
    made.onclick = pressed;
    made.removeAttribute("aria-disabled");
  };
  return made;
}

/** A bar that tells nothing which is not said in words beside it. part: 0 to 1. */
export function bar(part, className = "") {
  const fill = make("span");
  fill.style.width = `${100 * Math.min(1, Math.max(0, part || 0))}%`;
  return make("div", { className: `bar ${className}`, "aria-hidden": true }, fill);
}

/** Set the text only where it changed, so that what is selected stays and nobody is told twice. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Children of `parent`, one for each of `items`, in their order. Those that look as before stay the
 *  nodes they were, with focus and selection; `build` makes one from an item. */
export function keyed(parent, items, keyOf, build) {
  const before = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  let at = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item)), look = JSON.stringify(item);
    let node = before.get(key);
    before.delete(key);
    if (!node || node.looks !== look) {
      const made = build(item);
      made.dataset.key = key;
      made.looks = look;
      if (node) {
        if (at === node) at = made;
        swap(node, made);
      }
      node = made;
    }
    if (node === at) at = at.nextElementSibling;
    else parent.insertBefore(node, at);
  }
  for (const node of before.values()) node.remove();
}

/** Put `made` where `node` is; who was on a button of it is on the same button again. */
function swap(node, made) {
  const focusable = "button, a[href], input, summary";
  const at = [...node.querySelectorAll(focusable)].indexOf(document.activeElement);
  const open = node.querySelector("details")?.open;
  node.replaceWith(made);
  if (open && made.querySelector("details")) made.querySelector("details").open = true;
  if (at >= 0) made.querySelectorAll(focusable)[at]?.focus();
}

const frames = new Map();

/** Draw at the next frame; of several wishes of one name the last one. */
export function draw(name, how) {
  if (!frames.size) requestAnimationFrame(drawn);
  frames.set(name, how);
}

function drawn() {
  const wanted = [...frames.values()];
  frames.clear();
  for (const how of wanted) {
    try { how(); } catch (error) { console.error(error); }
  }
}

export function sizeText(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (bytes >= 999.5 && unit < units.length - 1) { bytes /= 1000; unit += 1; }
  return `${Number(bytes.toFixed(bytes < 99.95 ? 1 : 0))} ${units[unit]}`;
}

export function timeText(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

export const numberText = (count) => Number(count).toLocaleString("en");
export const countText = (count, noun) => `${numberText(count)} ${noun}${count === 1 ? "" : "s"}`;
export const whenText = (seconds) => new Date(seconds * 1000).toLocaleString();
export const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });

/** For who hears the page: what somebody waits for, and nothing that flows by. */
export const say = (text) => { $("say").textContent = text; };

const notices = new Map();

/** What nobody must miss, above everything; one text a kind, none takes it away. */
export function notice(kind, text) {
  if (text) notices.set(kind, text);
  else notices.delete(kind);
  write($("notice"), [...notices.values()].join(" "));
  $("notice").hidden = !notices.size;
}

/** The pill in the header. */
export function health(text, kind = "") {
  write($("health"), text);
  $("health").className = `pill ${kind}`;
}
