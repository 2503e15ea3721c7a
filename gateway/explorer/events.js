// What happened, the newest first. Many are kept, few are drawn, all at once each frame.

import { $, draw, keyed, make, numberText, write, whenText } from "./dom.js";

const KEPT = 1000, ROWS = 100;
const LOOKS = { normal: ["✓", "normal"], warning: ["!", "warning"], failure: ["✕", "failure"] };
const RANK = { normal: 0, warning: 1, failure: 2 };
let kept = [], least = 0;

/** events: some, in any order; those known already count once. */
export function addEvents(events) {
  const fresh = new Map(kept.map((event) => [event.id, event]));
  for (const event of events) fresh.set(event.id, event);
  kept = [...fresh.values()].sort((one, other) => other.id - one.id).slice(0, KEPT);
  $("events").hidden = false;
  draw("events", show);
}

export function forgetEvents() {
  kept = [];
  draw("events", show);
}

function show() {
  const wanted = kept.filter(({ severity }) => (RANK[severity] ?? 2) >= least);
  keyed($("event-list"), wanted.slice(0, ROWS), ({ id }) => id, eventRow);
  const hidden = wanted.length - ROWS;
  write($("events-line"), !wanted.length ? "Nothing of that kind happened lately."
    : hidden > 0 ? `The newest ${ROWS} of ${numberText(wanted.length)}. All: zerostor events` : "");
}

function eventRow({ at, severity, kind, subject, text, count, origin }) {
  const [sign, word] = LOOKS[severity] ?? LOOKS.failure;
  const when = new Date(at * 1000);
  return make("li", { className: word },
    make("b", { "aria-hidden": true }, sign), make("span", { className: "unseen" }, `${word}: `),
    make("time", { dateTime: when.toISOString(), title: whenText(at) }, when.toLocaleTimeString()),
    make("span", { className: "what" }, make("bdi", {}, text),
      ...(subject && !text.includes(subject) ? [" ", make("bdi", { className: "soft" }, subject)] : []),
      ...(count > 1 ? [" ", make("span", { className: "pill" }, `${count} times`)] : [])),
    ...(origin ? [make("bdi", { className: "pill" }, origin)] : []), make("code", {}, kind));
}

export function beginEvents() {
  for (const choice of $("severity").querySelectorAll("input")) {
    choice.onchange = () => { least = RANK[choice.value]; show(); };
    if (choice.checked) least = RANK[choice.value];
  }
}
