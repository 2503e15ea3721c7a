// How the system heals itself: what is repaired now, how far the sweep over everything is.

import { $, bar, countText, keyed, make, numberText, sizeText, soft, timeText, whenText } from "./dom.js";

const tasks = new Map();

/** repair: as GET /api/repairs answers. */
export function showRepairs({ waiting, asked, current, done, failed, shards, bytes_written: bytes, rate, eta,
                              by_spare: spares = {} }) {
  const left = waiting + asked + current.length;
  const last = Array.isArray(spares) ? spares.find(({ spare }) => !spare)?.sets ?? 0 : spares[0] ?? 0;
  showTask("repair", { name: "Repair", busy: left > 0, part: left ? done / (done + left) : 1,
    word: left ? "mending" : "nothing to mend",
    lines: [left > 0 && `${countText(left, "object")} to go${eta > 0 ? `, ${timeText(eta)} left` : ""}${
      rate > 0 ? ` · ${sizeText(rate)}/s` : ""}`,
      last > 0 && `${countText(last, "object")} may lose no more: these first`,
      done > 0 && `${countText(done, "object")} seen to: ${countText(shards, "shard")} made again, ${sizeText(bytes)}`,
      failed > 0 && `${numberText(failed)} could not be mended yet`] });
}

const MODES = { soft: "Are all shards there?", hard: "Is every byte right?" };

/** scrub: as GET /api/scrub answers. */
export function showScrub({ paused, passes, last, held_back: held, rate, estimate, orphan_count: orphans }) {
  for (const [mode, name] of Object.entries(MODES)) {
    const now = passes[mode], before = last[mode];
    if (!now && !before) continue;
    const pass = now ?? before, hurt = pass.missing + pass.corrupt;
    const part = now ? Math.min(1, now.next_id / (now.last_id || Infinity)) : 1;
    const left = mode === "hard" && now && estimate ? estimate - Date.now() / 1000 : 0;
    showTask(mode, { name, busy: Boolean(now), part,
      word: now ? (paused ? "paused" : `${Math.floor(100 * part)} %`) : "looked",
      lines: [!now && `${whenText(pass.ended)}: ${countText(pass.sets, "object")}`,
        now && [left > 0 && `${timeText(left)} left`, rate > 0 && `${sizeText(rate)}/s`].filter(Boolean).join(" · "),
        now && held, hurt ? `${countText(hurt, "shard")} missing or damaged, handed to repair`
          : pass.sets > 0 && "nothing wrong found",
        mode === "soft" && orphans > 0 && `${countText(orphans, "shard")} that no record names`] });
  }
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
