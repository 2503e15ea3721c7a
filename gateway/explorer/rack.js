// Stores as a rack: a bay each, with its fill, its state as sign and word, and how fast it is.

import { hideTask, showTask } from "./care.js";
import { $, bar, countText, health, keyed, make, notice, sizeText, soft, timeText, write } from "./dom.js";

/** Condition, sign, and how bad it is: 0 good, 1 look at it, 2 it is not there. */
const LOOKS = { up: ["✓", 0], slow: ["≈", 1], suspect: ["?", 1], "read-only": ["⊘", 1], full: ["■", 1],
  draining: ["→", 1], removed: ["–", 1], unknown: ["?", 2], down: ["✕", 2] };
const KINDS = ["good", "warn", "bad"];
let readsOnly = "", roleBefore = "";

/** Why this gateway takes no uploads; empty where it does. */
export const readsOnlyWhy = () => readsOnly;

const conditionOf = (store) => store.condition ?? store.state;
const kindOf = (store) => KINDS[(LOOKS[conditionOf(store)] ?? LOOKS.unknown)[1]];

/** stores: as GET /api/stores answers. */
export function showStores({ stores, metadata, uploads, rebalance, durability = [] }) {
  showRole(metadata, uploads);
  showMoving(rebalance);
  const well = stores.filter((store) => conditionOf(store) === "up").length;
  const words = new Map();
  for (const store of stores) {
    const condition = conditionOf(store);
    if (condition !== "up") words.set(condition, (words.get(condition) ?? 0) + 1);
  }
  const rest = [...words].map(([word, count]) => `${count} ${word}`).join(" · ");
  const all = well === stores.length;
  write($("stores-line"), [`${well} of ${countText(stores.length, "store")} up${rest && ` · ${rest}`}.`,
    roomText(stores), ...durability.map(durabilityText)].filter(Boolean).join(" "));
  health(all ? "✓ all stores up" : `! ${rest}`,
    all ? "good" : stores.some((store) => kindOf(store) === "bad") ? "bad" : "warn");
  const found = racks(stores);
  $("store-list").className = found.length > 1 ? "several" : "";
  keyed($("store-list"), found, ({ name }) => `rack ${name}`, rack);
}

/** How far filling all stores alike is. */
function showMoving({ running, bytes, moved_bytes: moved = 0, spread, problem } = {}) {
  if (!running) { hideTask("even"); return; }
  showTask("even", { name: "Filling all stores alike", busy: true, word: "moving",
    part: moved / Math.max(1, moved + bytes), lines: [`${sizeText(bytes)} to move`,
      spread > 0 && `the fullest is ${Math.round(spread)} % above its part`, problem] });
}

function durabilityText({ policy, domains, losses, nines, crowded }) {
  const so = `Files of policy ${policy} are on ${countText(domains, "place")} that fail on their own; ${
    losses > 1 ? `any ${losses - 1} of them may be lost` : "the loss of one may lose files"}: ${
    countText(Math.floor(nines), "nine")} a year.`;
  return crowded ? `${so} More places would be better.` : so;
}

function roomText(stores) {
  const known = stores.filter((store) => store.total > 0 && store.free !== null);
  if (!known.length) return "";
  // Folders on one disk all tell of the same room.
  const sum = (name) => known.reduce((all, store) => all + store[name], 0);
  return `${Math.round(100 * (1 - sum("free") / sum("total")))} % full.`;
}

/** One rack a host where hosts are named, else one a pool. */
function racks(stores) {
  const found = new Map();
  for (const store of stores) {
    const name = store.labels?.host || store.pool || "";
    if (!found.has(name)) found.set(name, []);
    found.get(name).push(pictured(store));
  }
  return [...found].map(([name, bays]) => ({ name, bays, alone: found.size === 1 }));
}

/** What is drawn of a store, rounded as it is drawn: what looks the same is not drawn again. */
function pictured(store) {
  const known = store.total > 0 && store.free !== null;
  const used = known ? 1 - store.free / store.total : 0;
  return { name: store.name, condition: conditionOf(store), kind: kindOf(store), used: Number(used.toFixed(2)),
    room: known ? [`${Math.round(100 * used)} % full`, `${sizeText(store.free)} free`] : ["room not known"],
    why: store.lost ? "lost: it is rebuilt elsewhere" : store.reason, facts: factsOf(store), drain: drainOf(store.drain), site: store.labels?.site ?? "" };
}

function factsOf(store) {
  const p99 = Math.max(store.read?.p99 ?? 0, store.write?.p99 ?? 0);
  return [store.shards > 0 && countText(store.shards, "shard"),
    p99 > 0 && `p99 ${p99 < 1 ? `${Number((1000 * p99).toPrecision(2))} ms` : timeText(p99)}`,
    store.errors > 0 && countText(store.errors, "error")].filter(Boolean).join(" · ");
}

/** How far a store is emptied, and what is in its way. */
function drainOf(state) {
  if (!state) return null;
  const { shards = 0, moved = 0, waiting = 0, eta = 0, empty, problem = "" } = state;
  const part = empty ? 1 : moved / Math.max(1, moved + shards);
  return { part: Number(part.toFixed(2)), text: empty ? "empty: it may be unplugged"
    : `${countText(shards, "shard")} to move${eta > 0 ? `, ${timeText(eta)} left` : ""}${
      waiting > 0 ? `, ${waiting} wait until their volume is closed` : ""}`, problem };
}

function rack({ name, bays, alone }) {
  const list = make("ul", { className: "rack", "aria-label": alone ? "Stores" : `Stores of ${name}` },
    ...bays.map(bay));
  return make("li", {}, ...(alone ? [] : [make("h3", {}, make("bdi", {}, name))]), list);
}

function bay({ name, condition, kind, used, room, why, facts, drain, site }) {
  const [sign] = LOOKS[condition] ?? LOOKS.unknown;
  return make("li", { className: `bay ${kind}` },
    make("div", { className: "row" }, make("bdi", { className: "name" }, name),
      make("span", { className: `state ${kind}` }, make("b", { "aria-hidden": true }, sign), condition)),
    bar(used, used > 0.9 ? "full" : ""),
    make("div", { className: "row" }, ...[...room, facts].filter(Boolean).map((line) => soft(line))),
    ...(drain ? [bar(drain.part, "moving"), soft(drain.text), ...(drain.problem ? [soft(drain.problem)] : [])]
      : []),
    ...(why || site ? [make("p", { className: "soft why", title: why || site }, why || site)] : []));
}

/** Where to upload instead, on a gateway that only reads; and what operators must not miss. */
function showRole(metadata, uploads) {
  const where = metadata?.gateway || metadata?.master || "";
  const cut = metadata?.role === "slave" && !metadata.connected;
  const reads = metadata?.role === "master" ? `This gateway only reads: ${metadata.refuses}.`
    : "This is a slave: it only reads.";
  readsOnly = uploads ? "" : "this gateway only reads.";
  $("drop").hidden = $("private").parentElement.parentElement.hidden = !uploads;
  $("role").hidden = uploads;
  if (!uploads && reads + where !== roleBefore) {
    roleBefore = reads + where;
    const place = /^https?:\/\//.test(where) ? make("a", { href: where }, where) : where;
    $("role").replaceChildren(reads, ...(where ? [" Upload at ", place, "."] : []));
  }
  notice("cut", cut && `Its master is away (${metadata.problem}), for ${
    timeText(metadata.behind_seconds)}. Bring it back, or make this one the master: zerostor promote.`);
  notice("aside", metadata?.aside_files > 0 && `Its metadata has ${countText(metadata.aside_files, "file")
    } aside-* with what its master never had: look whether uploads are missed, then remove them.`);
  notice("differs", metadata?.differs && `Its metadata is not its master's: ${metadata.differs}.`);
}
