// How the system heals itself: what is repaired now, how far the sweep over everything is.

import { $, bar, countText, keyed, make, numberText, sizeText, soft, timeText } from "./dom.js";

const tasks = new Map();

/** repair: as GET /api/repairs answers. */
export function showRepairs({ waiting = 0, done = 0, failed = 0, bytes = 0, eta, current }) {
  const busy = waiting > 0 || Boolean(current?.length ?? current);
  showTask("repair", { name: "Repair", busy, part: busy ? done / Math.max(1, done + waiting) : 1,
    word: busy ? "mending" : "nothing to mend",
    lines: [busy && `${countText(waiting, "object")} to go${eta > 0 ? `, ${timeText(eta)} left` : ""}`,
      done > 0 && `${numberText(done)} mended · ${sizeText(bytes)} written`,
      failed > 0 && `${countText(failed, "object")} could not be mended yet`] });
}

/** scrub: as GET /api/scrub answers. */
export function showScrub(scrub) {
  const { state = "", mode, progress, done, total, eta, found, bad, orphans, paused } = scrub;
  const part = progress ?? (total ? done / total : 0);
  const busy = !paused && (state === "running" || (part > 0 && part < 1 && state !== "paused"));
  showTask("scrub", { name: "Sweep over everything", busy, part,
    word: state || (busy ? "running" : "waiting"),
    lines: [(part > 0 || busy) && `${Math.floor(100 * part)} %${mode ? ` · ${mode}` : ""}${
      eta > 0 ? ` · ${timeText(eta)} left` : ""}`,
      (found ?? bad) > 0 && `${countText(found ?? bad, "damaged object")} found`,
      orphans > 0 && `${countText(orphans, "shard")} that no record names`] });
}

/** Show how one task goes. part: 0 to 1; lines: texts, or what is none. */
export function showTask(key, told) {
  tasks.set(key, { key, ...told, part: Number(Number(told.part || 0).toFixed(3)), lines: told.lines.filter(Boolean) });
  show();
}

export function hideTask(key) {
  if (tasks.delete(key)) show();
}

function show() {
  $("care").hidden = !tasks.size;
  keyed($("care-list"), [...tasks.values()], (task) => task.key, ({ name, busy, part, word, lines }) =>
    make("li", {},
      make("div", { className: "row" }, make("span", { className: "name" }, name),
        make("span", { className: `state ${busy ? "warn" : "good"}` }, word)),
      bar(part, busy ? "moving" : ""), ...lines.map((line) => soft(line))));
}

export function forgetCare() {
  tasks.clear();
  $("care").hidden = true;
}
