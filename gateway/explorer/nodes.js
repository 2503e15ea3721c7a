// Nodes, the chunks of telemetry on them, who earned what; and SSH homes.

import { $, bar, countText, keyed, make, sizeText, soft, timeText, whenText, write } from "./dom.js";

const NODES = 200, STREAMS = 50, CHUNKS = 120;

/** A name, a word beside it, a bar (used: 0 to 1), and lines. */
function card(name, word, used, ...lines) {
  return make("li", {},
    make("div", { className: "row" }, make("bdi", { className: "name" }, name), word),
    bar(used, used > 0.9 ? "full" : ""), ...lines.filter(Boolean).map((line) => soft(line)));
}

const state = (good, word) => make("span", { className: `state ${good ? "good" : "bad"}` },
  make("b", { "aria-hidden": true }, good ? "✓" : "✕"), word);

export function showNodes({ hub, nodes }) {
  $("nodes").hidden = false;
  const here = nodes.filter((node) => node.state === "connected").length;
  if (nodes.length) write($("nodes-line"), `${here} of ${countText(nodes.length, "node")} connected · they dial ${hub.address}`);
  else $("nodes-line").replaceChildren("No nodes yet: ", make("code", {}, "zerostor node add NAME"));
  keyed($("node-list"), nodes.slice(0, NODES), ({ name }) => name, nodeCard);
}

function nodeCard({ name, owner, site, state: now, size, free, chunks, uptime, years_left: years,
                    needs_format: foreign, last_event: last }) {
  const here = now === "connected";
  const worn = years === null || years === undefined || years > 99 ? "" : ` · flash for ${years} years`;
  return card(name, state(here, here ? "up" : "away"), size ? 1 - free / size : 0,
    here ? `${countText(chunks, "chunk")} · ${sizeText(free)} free · up ${timeText(uptime)}` : "",
    [owner, site].filter(Boolean).join(" · ") + worn,
    foreign ? "its flash holds something else" : last ? `${last.kind}: ${last.detail}` : "");
}

export function showStreams({ streams }) {
  $("streams-title").hidden = !streams.length;
  keyed($("stream-list"), streams.slice(0, STREAMS), ({ name }) => name, streamCard);
}

function streamCard({ name, size, chunks, waiting, waiting_since: since, last }) {
  return card(name, state(!waiting, waiting ? "waits" : "up"), chunks ? 1 - waiting / chunks : 0,
    `${sizeText(size)} · ${countText(chunks, "chunk")}`,
    waiting ? `${waiting} wait for nodes since ${whenText(since)}`
      : chunks ? "all on nodes" : "grows until a chunk is full",
    last ? `last ${whenText(last)}` : "");
}

/** Where the newest chunks are: a row a chunk, a square a copy, with the name of its node. */
export function showChunks({ chunks }) {
  $("chunks-title").hidden = !chunks.length;
  keyed($("chunk-list"), chunks.slice(0, CHUNKS), ({ stream, number }) => `${stream} ${number}`, chunkRow);
}

const PLACES = { held: "✓", placing: "→" };

function chunkRow({ stream, number, size, local, missing, copies }) {
  return make("li", { title: sizeText(size) },
    make("span", { className: "what" }, make("bdi", {}, stream), ` ${number}`),
    ...Object.entries(copies).map(([node, how]) => make("span", { className: `copy ${how}` },
      make("b", { "aria-hidden": true }, PLACES[how] ?? "!"), " ", make("bdi", {}, node),
      ...(how === "held" ? [] : [make("i", {}, ` ${how}`)]))),
    ...(missing ? [make("span", { className: "copy wanted" }, `${missing} more wanted`)] : []),
    ...(local ? [make("span", { className: "soft" }, "and on the hub")] : []));
}

export function showLedger({ owners }) {
  $("ledger-title").hidden = !owners.length;
  keyed($("ledger-list"), owners, ({ owner }) => owner, ({ owner, chunks, hours, lost, failures, factor,
                                                           tokens, availability }) =>
    card(owner, make("span", { className: "soft" }, countText(tokens, "token")), 1 - factor,
      `${countText(chunks, "chunk")} · ${Math.round(hours)} chunk-hours`,
      `there ${Math.round(availability * 100)} % of the day · factor ${factor.toFixed(2)}`,
      lost || failures ? `${lost} lost · ${failures} failed` : ""));
}

export function showHomes({ server, homes }) {
  $("homes").hidden = false;
  const port = server.address.split(":").pop();
  $("homes-line").replaceChildren(
    make("code", {}, `sftp -P ${port} ${homes[0]?.user ?? "USER"}@${location.hostname}`),
    " · host key ", make("code", {}, server.fingerprint),
    ...(homes.length ? [] : [" · a home is made by ",
      make("code", {}, "zerostor ssh-enable USER --key FILE")]));
  keyed($("home-list"), homes, ({ user }) => user, ({ user, enabled, used, limit, files, keys }) =>
    card(user, make("span", { className: "soft" }, enabled ? countText(keys.length, "key") : "closed"),
      (used ?? 0) / limit,
      used === undefined ? "being counted" : `${sizeText(used)} of ${sizeText(limit)}`,
      used === undefined ? "" : countText(files, "file")));
}
