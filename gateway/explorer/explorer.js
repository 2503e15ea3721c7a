// The page at /: upload, look up, watch. Plain browser code; nothing is fetched from elsewhere.

import { ask } from "./ask.js";
import { forgetCare, showRepairs, showScrub } from "./care.js";
import { $, health, notice, write } from "./dom.js";
import { addEvents, beginEvents, forgetEvents } from "./events.js";
import { forgetFigures, point } from "./figures.js";
import { countStored, showJobs } from "./jobs.js";
import { showRecent } from "./links.js";
import { listen } from "./live.js";
import { beginLookup, heard, lookAt } from "./lookup.js";
import { showChunks, showHomes, showLedger, showNodes, showStreams } from "./nodes.js";
import { readsOnlyWhy, showStores } from "./rack.js";
import { begin, mayAdminister, mayAsk } from "./sign_in.js";
import { beginUploads } from "./uploads.js";
import { Watch } from "./watch.js";

const OFTEN_MS = 3000, SELDOM_MS = 15000;
const SECTIONS = ["jobs", "stores", "homes", "nodes", "events", "care", "now"];
const hides = (...ids) => () => { for (const id of ids) $(id).hidden = true; };

function stores(body) {
  showStores(body);
  $("stores").hidden = false;
  const slaves = body.metadata?.slaves ?? [];
  if (slaves.length) point("lag", Math.max(...slaves.map((slave) => slave.behind_seconds)));
  if (body.metadata?.role === "slave") point("lag", body.metadata.behind_seconds);
}

function jobs(body) {
  showJobs(body);
  $("jobs").hidden = false;
  point("waiting", body.waiting + body.running + body.delayed);
  point("oldest", body.oldest);
}

/** Why an upload would not work, and which parts this gateway has. */
function ready({ problems = [], nodes, ssh }) {
  notice("ready", problems.length && `Not ready: ${problems.join("; ")}.`);
  for (const name of ["nodes", "streams", "chunks", "ledger"]) watch.have(name, Boolean(nodes));
  watch.have("homes", Boolean(ssh));
}

const watch = new Watch({
  ready: { path: "/readyz", every: SELDOM_MS, show: ready, failed: ready, hide: hides() },
  stores: { path: "/api/stores", every: OFTEN_MS, show: stores, hide: hides("stores"), admin: true },
  jobs: { path: "/api/jobs", every: OFTEN_MS, show: jobs, hide: hides("jobs"), admin: true },
  repair: { path: "/api/repairs", every: OFTEN_MS, show: showRepairs, hide: hides(), admin: true },
  scrub: { path: "/api/scrub", every: OFTEN_MS, show: showScrub, hide: hides(), admin: true },
  nodes: { path: "/api/nodes", every: OFTEN_MS, show: showNodes, hide: hides("nodes"), admin: true, asked: true },
  streams: { path: "/api/telemetry", every: OFTEN_MS, show: showStreams, hide: hides("streams-title"), asked: true },
  chunks: { path: "/api/nodes/chunks", every: OFTEN_MS, show: showChunks, hide: hides("chunks-title"), admin: true,
    asked: true },
  ledger: { path: "/api/nodes/ledger", every: SELDOM_MS, show: showLedger, hide: hides("ledger-title"), admin: true,
    asked: true },
  homes: { path: "/api/ssh/homes", every: SELDOM_MS, show: showHomes, hide: hides("homes"), admin: true, asked: true },
});

// ---------------------------------------------------------------- live

let turn = 0, before = null, last = 0;

/** Counters that only grow, as speeds. now: what all did so far, `at` epoch seconds. */
function pulse(now) {
  const seconds = before ? now.at - before.at : 0;
  const fresh = seconds > 0 && now.received >= before.received && now.sent >= before.sent;
  if (fresh) {
    const rate = (name) => Math.max(0, now[name] - before[name]) / seconds;
    point("received", rate("received"));
    point("sent", rate("sent"));
    point("stored", rate("stored"));
    point("p99", quantile(0.99, before, now));
    if (now.stored > before.stored) countStored(now.stored - before.stored);
  }
  before = now;
}

/** Of downloads that ended between two answers: the time that so large a share kept to; 0 of none. */
function quantile(share, { downloads: earlier, downloaded: begin }, { downloads, downloaded }) {
  const wanted = share * (downloaded - begin);
  if (!wanted) return 0;
  const found = downloads.find(([, count], at) => count - (earlier[at]?.[1] ?? 0) >= wanted);
  return (found ?? downloads.at(-1))?.[0] ?? 0;
}

function take(name, body) {
  if (name === "event") {
    last = Math.max(last, body.id);
    addEvents([body]);
    heard(body);
  } else if (name === "figures") pulse(body);
  else watch.take(name, body);
}

function turned(how) {
  write($("live"), how === "live" ? "● live" : "○ asking every few seconds");
  if (how === "live") return;
  before = null;
  watch.unstreamed();
}

async function follow() {
  const mine = turn += 1;
  const wanted = () => mine === turn && mayAsk();
  if (!mayAdminister()) { $("live").hidden = true; return; }
  try {
    const known = await ask("/api/events?limit=200");
    if (!wanted()) return;
    last = known.next;
    addEvents(known.events);
  } catch { /* the stream tells why */ }
  listen({ take, turned, wanted, last: () => last });
}

beginUploads(readsOnlyWhy);
beginEvents();
beginLookup();
showRecent(lookAt);
begin(() => {
  $("upload").hidden = !mayAsk();
  $("live").hidden = !mayAsk();
  if (mayAsk()) {
    if (!mayAdminister()) health("signed in");
    watch.begin(mayAdminister());
    follow();
    return;
  }
  turn += 1;
  watch.end();
  forgetEvents();
  forgetFigures();
  forgetCare();
  hides(...SECTIONS)();
  health("for who signs in");
});
ask("/healthz").then(({ version }) => { write($("version"), `zerostor ${version}`); }, () => {});
