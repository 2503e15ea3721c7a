// How one object is: its shards as a grid, looked at, mended, removed, brought back.

import { ask, tell } from "./ask.js";
import { $, button, countText, draw, make, pause, say, soft, timeText, whenText } from "./dom.js";
import { linkRow } from "./links.js";
import { mayAdminister, mayAsk, mayRemove } from "./sign_in.js";

const PICTURES = /^(apng|avif|bmp|gif|ico|jpe?g|png|webp)$/;
const SIGNS = { present: "✓", missing: "✕", corrupt: "!", unknown: "?" };
const WORDS = { present: "there", missing: "missing", corrupt: "damaged", unknown: "cannot be asked" };
const LOOK_MS = 700;            // between looks at an object that is being mended
let asked = 0, shown = "", standing = null;

/** Show what is behind a link or hash. */
export async function lookUp(text) {
  const found = /[0-9a-f]{56}(?![0-9a-f])/i.exec(text);
  if (!found) {
    asked += 1;
    shown = "";
    $("found").replaceChildren(verdictLine("unreadable",
      "That is not a link: a hash has 56 characters, 0 to 9 and a to f."));
    return;
  }
  const hash = found[0].toLowerCase();
  history.replaceState(null, "", `#${hash}`);
  if (shown !== hash) $("found").replaceChildren(soft("Looking…"));
  shown = hash;
  await look(hash);
  $("lookup").scrollIntoView({ block: "nearest" });
}

async function look(hash) {
  const turn = asked += 1;
  let head = [];
  const show = (...parts) => { if (turn === asked) $("found").replaceChildren(...head, ...parts); };
  try {
    const object = await ask(`/api/exists/${hash}`);
    head = describe(object);
    const report = await ask(`/api/check/${hash}?mode=soft`);
    if (turn !== asked) return;
    standing = new Standing(hash, object, report);
    show(standing.node);
  } catch (error) {
    if (turn !== asked) return;
    standing = null;
    if (error.status === 410) show(...await gone(hash, error.message));
    else show(verdictLine("unreadable", error.status === 404
      ? "There is no file with this hash here." : error.message));
  }
}

/** What is on the page may have changed: an event told of it. */
export function heard({ subject, text }) {
  if (shown && `${subject} ${text}`.includes(shown) && !standing?.busy) draw("again", () => look(shown));
}

function describe(object) {
  const rows = linkRow(object.link, object.ext ? `.${object.ext} file` : "File", object.size,
    { checked: false });
  const secret = object.private ? " Private: its hash tells nothing of what is in it." : "";
  rows.push(soft(`Stored ${whenText(object.created)}, policy ${object.policy}.${secret}`));
  if (PICTURES.test(object.ext) && object.size < 1e7) {
    const picture = make("img", { src: object.link, alt: "The stored picture", loading: "lazy" });
    picture.onerror = () => picture.remove();
    rows.push(picture);
  }
  return rows;
}

const verdictLine = (state, text) => make("p", { className: `verdict ${state}` }, text);

/** The shards of one object, and what can be done about them. */
class Standing {
  constructor(hash, object, report) {
    this.hash = hash;
    this.busy = false;
    this.line = verdictLine(report.state, "");
    this.grid = make("ul", { className: "shards", "aria-label": "Shards of this file, each on a store" });
    this.hurt = make("ul", { className: "plain" });
    this.progress = soft("");
    this.checking = button("Check every byte", () => this.check(), { hidden: !mayAsk() });
    this.mending = button("Repair", () => this.repair(), { className: "", hidden: true });
    this.node = make("div", { className: "standing" }, this.line, this.grid, this.hurt, this.progress,
      make("div", { className: "row acts" }, button("Look again", () => this.again()),
        this.checking, this.mending, ...removal(hash)));
    this.show(report);
  }

  show(report) {
    this.report = report;
    this.line.className = `verdict ${report.state}`;
    this.line.textContent = verdict(report);
    this.grid.replaceChildren(...report.shards.map((shard) => shardCell(shard, this.busy)));
    const hurt = report.shards.filter((shard) => shard.state !== "present");
    this.hurt.replaceChildren(...hurt.map((shard) => make("li", {}, `Shard ${shard.index}`,
      ...(shard.store ? [" on ", make("bdi", {}, shard.store)] : []),
      `: ${WORDS[shard.state] ?? shard.state}${shard.detail && `, ${shard.detail}`}`)));
    this.mending.hidden = !hurt.length || !mayAdminister();
  }

  async again() { this.show(await ask(`/api/check/${this.hash}?mode=${this.report.mode}`)); }

  async check() {
    this.checking.textContent = "Reading every byte…";
    this.show(await ask(`/api/check/${this.hash}?mode=hard`));
    this.checking.textContent = "Check every byte";
    say(this.line.textContent);
  }

  /** Ask for it, and look on until its job ended. */
  async repair() {
    this.busy = true;
    try {
      this.mending.textContent = "Repairing…";
      const { job } = await tell(`/api/repair/${this.hash}`);
      let state = { state: "ACTIVE" };
      while (!state.repair && ["ACTIVE", "WAITING"].includes(state.state)) {
        await pause(LOOK_MS);
        state = await ask(`/api/status/${job}`);
        const part = state.progress ? ` ${Math.round(100 * state.progress)} %.` : "";
        this.progress.textContent = state.state === "WAITING" && state.detail
          ? `It waits: ${state.detail}` : `Missing shards are made again from the others.${part}`;
        this.show(await ask(`/api/check/${this.hash}?mode=soft`));
      }
      const left = state.repair?.left ?? [];
      this.progress.textContent = state.state === "ERROR" ? `Not repaired: ${state.detail}`
        : left.length ? `Not all could be made again: ${left.join("; ")}` : "";
    } finally {
      this.busy = false;
      this.mending.textContent = "Repair";
    }
    await this.again();
    say(this.line.textContent);
  }
}

function verdict({ state, good, needed, total, content, mode }) {
  const spare = good - needed;
  const how = mode === "hard" ? "every byte was read and is right" : `all ${total} shards are there`;
  if (state === "healthy") return `✓ Whole: ${how}. Any ${spare} of ${total} may be lost.`;
  if (state === "degraded") {
    const may = spare ? `${spare} more may be lost` : "none more may be lost";
    return `! Readable: ${good} of ${total} shards are good; ${may}.`;
  }
  const why = content && content !== "good" ? ` ${content}.` : "";
  return `✕ Not readable now: ${countText(good, "good shard")}, ${needed} needed.${why}`;
}

function shardCell({ index, store, state, detail }, busy) {
  const mending = busy && state !== "present";
  return make("li", { className: `${state in SIGNS ? state : "unknown"}${mending ? " mending" : ""}`,
    title: [store, WORDS[state] ?? state, detail].filter(Boolean).join(" · ") },
    make("b", { "aria-hidden": true }, SIGNS[state] ?? "?"),
    make("bdi", {}, store || "nowhere"), make("span", {}, `shard ${index}`), make("i", { className: "unseen" }, WORDS[state] ?? state));
}

// ---------------------------------------------------------------- gone, and back

function removal(hash) {
  if (!mayRemove()) return [];
  const asking = make("dialog", { "aria-label": "Remove this file?" });
  const close = () => asking.close();
  asking.append(make("p", {}, "Remove this file? Its link ends at once. For a while it can be brought back."),
    make("div", { className: "row" }, button("Keep it", close),
      button("Remove", async () => {
        await ask(`/api/objects/${hash}`, { method: "DELETE" });
        close();
        say("Removed.");
        await look(hash);
      }, { className: "danger" })));
  const acts = [button("Remove…", () => asking.showModal())];
  if (mayAdminister()) acts.push(button("Quarantine", () => change(hash, "quarantine"),
    { title: "The link goes dark, nothing is deleted" }));
  return [...acts, asking];
}

async function change(hash, verb) {
  await tell(`/api/objects/${hash}/${verb}`, {});
  await look(hash);
}

const GONE = { quarantined: ["Release it", "release"], removed: ["Bring it back", "restore"] };

/** An object that was here: what is told of it, and what who asks may do about it. */
async function gone(hash, message) {
  const found = mayRemove() && mayAdminister() ? await removedRow(hash) : null;
  const { state, at, until } = found ?? {};
  const left = until ? until - Date.now() / 1000 : 0;
  const lines = [verdictLine("degraded", `⊘ ${message}`)];
  if (state) lines.push(soft(`${state[0].toUpperCase()}${state.slice(1)} since ${whenText(at)}.${
    left > 0 ? ` It can be brought back for another ${timeText(left)}.` : ""}`));
  // Who is no admin is told nothing more; if it was he who removed it he may take that back.
  const acts = mayRemove() ? [GONE[mayAdminister() ? state : "removed"]].filter(Boolean) : [];
  return [...lines, make("div", { className: "row acts" },
    ...acts.map(([text, verb]) => button(text, () => change(hash, verb), { className: "" })))];
}

async function removedRow(hash) {
  try {
    const from = Number.parseInt(hash.slice(48), 16);
    const { removed } = await ask(`/api/removed?from=${from}&limit=1`);
    return removed.find((row) => row.hash === hash) ?? null;
  } catch { return null; }
}

export function beginLookup() {
  $("lookup").querySelector("form").onsubmit = (event) => {
    event.preventDefault();
    lookUp($("hash").value);
  };
  addEventListener("hashchange", () => { if (location.hash.length > 56) lookUp(location.hash); });
  if (location.hash.length > 56) {
    $("hash").value = location.hash.slice(1);
    lookUp(location.hash);
  }
}

/** Look at `link`, as if it had been typed. */
export function lookAt(link) {
  $("hash").value = link;
  return lookUp(link);
}
