// Speed and lag as small charts, drawn here; each says in words what its line shows.

import { $, draw, make, numberText, sizeText, timeText, write } from "./dom.js";

const POINTS = 120, WIDTH = 240, HEIGHT = 48;
const SVG = "http://www.w3.org/2000/svg";
const speed = (value) => `${sizeText(value)}/s`;
const seconds = (value) => (value < 1 ? `${Math.round(1000 * value)} ms` : timeText(value));
const CHARTS = {
  received: { name: "Coming in", text: speed },
  sent: { name: "Going out", text: speed },
  stored: { name: "Stored a second", text: (value) => numberText(Number(value.toFixed(1))) },
  p99: { name: "Downloads, p99", text: (value) => (value ? seconds(value) : "none now") },
  waiting: { name: "Jobs that wait", text: numberText },
  oldest: { name: "The oldest waits", text: (value) => (value ? timeText(value) : "none waits") },
  lag: { name: "Slaves are behind", text: (value) => (value ? timeText(value) : "nothing") },
};
const charts = new Map();

function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

class Chart {
  constructor(key) {
    const { name } = CHARTS[key];
    this.key = key;
    this.points = [];
    this.now = make("dd", {}, "…");
    this.line = svg("path", { class: "line" });
    this.area = svg("path", { class: "area" });
    this.picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none",
      role: "img", "aria-label": name }, this.area, this.line);
    this.peak = make("dd", { className: "soft" });
    const box = make("div", {}, make("dt", {}, name), this.now, this.picture, this.peak);
    // Always in the same order, whichever has its first value first.
    box.style.order = Object.keys(CHARTS).indexOf(key);
    $("charts").append(box);
  }

  add(value) {
    this.points.push(value);
    if (this.points.length > POINTS) this.points.shift();
    draw(`chart ${this.key}`, () => this.show());
  }

  show() {
    const { name, text } = CHARTS[this.key];
    const most = Math.max(...this.points), top = most || 1, step = WIDTH / (POINTS - 1);
    const begin = WIDTH - (this.points.length - 1) * step;
    const at = this.points.map((value, place) =>
      `${(begin + place * step).toFixed(1)} ${(HEIGHT - 2 - (HEIGHT - 6) * value / top).toFixed(1)}`);
    this.line.setAttribute("d", `M${at.join("L")}`);
    this.area.setAttribute("d", `M${begin.toFixed(1)} ${HEIGHT}L${at.join("L")}L${WIDTH} ${HEIGHT}Z`);
    write(this.now, text(this.points.at(-1)));
    write(this.peak, most ? `at most ${text(most)}` : "");
    this.picture.setAttribute("aria-label", `${name}: now ${text(this.points.at(-1))}, at most ${text(most)}`);
  }
}

/** A new value of one chart; those that never got one are not on the page. */
export function point(key, value) {
  if (!Number.isFinite(value)) return;
  if (!charts.has(key)) charts.set(key, new Chart(key));
  $("now").hidden = false;
  charts.get(key).add(value);
}

export function forgetFigures() {
  charts.clear();
  $("charts").replaceChildren();
  $("now").hidden = true;
}
