// The page at /: upload, look up, watch. Plain browser code; nothing is fetched from elsewhere.

import { begin, credential, mayAsk, refused } from "./sign_in.js";

const AT_ONCE = 2;              // uploads that run beside each other
const POLL_MS = 4000;
const HOMES_MS = 15000;
const WAIT = 30;                // seconds the gateway may hold a question open
const BIG = 32e6;               // from this size on, the limit is asked for before sending
const RECENT_MAX = 20;
const PICTURES = /^(apng|avif|bmp|gif|ico|jpe?g|png|webp)$/;
const $ = (id) => document.getElementById(id);

function make(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function sizeText(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (bytes >= 999.5 && unit < units.length - 1) { bytes /= 1000; unit += 1; }
  return `${Number(bytes.toFixed(bytes < 99.95 ? 1 : 0))} ${units[unit]}`;
}

function timeText(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });
const say = (text) => { $("say").textContent = text; };
const countText = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

/** The JSON at `path`. Throws an Error with a sentence for a person; `status` is 0 without answer. */
async function ask(path, options = {}) {
  let response, body;
  const used = credential();
  try {
    response = await fetch(path, { headers: { Accept: "application/json", ...used }, ...options });
    body = await response.json();
  } catch (error) {
    if (!response) throw Object.assign(new Error("The gateway does not answer."), { status: 0 });
    body = {};
  }
  if (response.ok) return body;
  const text = body.detail || `The gateway answered ${response.status}.`;
  if (response.status === 401) refused(used, text);
  throw Object.assign(new Error(text), { status: response.status, body });
}

// ---------------------------------------------------------------- copy and remember

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Browsers offer the clipboard on https and localhost only.
    const area = make("textarea", { value: text, className: "unseen" });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  button.textContent = "Copied";
  say("Link copied.");
  setTimeout(() => { button.textContent = "Copy link"; }, 2000);
}

function linkRow(link, name, size) {
  const url = new URL(link, location.href).href;
  const copyButton = make("button", { type: "button", textContent: "Copy link",
    "aria-label": `Copy the link of ${name}` });
  copyButton.onclick = () => copy(url, copyButton);
  const check = make("button", { type: "button", className: "quiet", textContent: "Check",
    "aria-label": `Check ${name}` });
  check.onclick = () => { $("hash").value = url; lookUp(url); };
  return [
    make("div", { className: "row" },
      make("span", { className: "name" }, name),
      make("span", { className: "soft" }, sizeText(size))),
    make("div", { className: "row" },
      make("a", { className: "link", href: url }, url), copyButton, check)];
}

/** Ours, or of the host name that the gateway serves objects from. */
const LINK = /^(https?:\/\/[^/]+)?\/[0-9a-f]{56}/;

function remembered() {
  try {
    const kept = JSON.parse(localStorage.getItem("zerostor.links"));
    return Array.isArray(kept) ? kept.filter((entry) => LINK.test(entry.link)) : [];
  } catch { return []; }
}

function remember(entry) {
  const others = remembered().filter((kept) => kept.link !== entry.link);
  try {
    localStorage.setItem("zerostor.links", JSON.stringify([entry, ...others].slice(0, RECENT_MAX)));
  } catch { /* a private window: the links are still on the page */ }
}

function showRecent() {
  const entries = remembered();
  $("recent").hidden = !entries.length;
  $("recent").querySelector("ul").replaceChildren(
    ...entries.map((entry) => make("li", {}, ...linkRow(entry.link, entry.name, entry.size))));
}

$("forget").onclick = () => { localStorage.removeItem("zerostor.links"); showRecent(); };

// ---------------------------------------------------------------- upload

const queue = [];
let running = 0;

class Upload {
  constructor(file) {
    this.file = file;
    this.private = $("private").checked;
    this.fill = make("span");
    this.bar = make("div", { className: "bar", role: "progressbar",
      "aria-label": `Upload of ${file.name}`, "aria-valuemin": 0, "aria-valuemax": 100 }, this.fill);
    this.line = make("p", { className: "soft" });
    this.button = make("button", { type: "button", className: "quiet" });
    this.item = make("li", {},
      make("div", { className: "row" },
        make("span", { className: "name" }, file.name),
        make("span", { className: "soft" }, sizeText(file.size)), this.button),
      this.bar, this.line);
    $("uploads").prepend(this.item);
    this.enqueue();
  }

  enqueue() {
    this.item.classList.remove("failed");
    this.bar.hidden = false;
    this.cancelled = false;
    this.show("Waiting for its turn…", 0);
    this.offer("Cancel", () => this.cancel());
    queue.push(this);
    next();
  }

  show(text, part) {
    this.line.textContent = text;
    this.bar.classList.toggle("busy", part === undefined);
    if (part === undefined) { this.bar.removeAttribute("aria-valuenow"); this.fill.style.width = ""; return; }
    this.fill.style.width = `${100 * part}%`;
    this.bar.setAttribute("aria-valuenow", Math.round(100 * part));
  }

  offer(text, action) {
    this.button.textContent = text;
    this.button.setAttribute("aria-label", `${text}: ${this.file.name}`);
    this.button.onclick = action;
  }

  cancel() {
    this.cancelled = true;
    this.request?.abort();
    const at = queue.indexOf(this);
    if (at >= 0) { queue.splice(at, 1); this.fail("Cancelled."); }
  }

  fail(text) {
    this.bar.hidden = true;
    this.item.classList.add("failed");
    this.line.textContent = text;
    this.offer("Try again", () => this.enqueue());
    say(`${this.file.name}: ${text}`);
  }

  async run() {
    try {
      await this.refuseTooLarge();
      let answer = await this.send();
      if (!answer.link) answer = await this.follow(answer.job);
      this.done(answer.link);
    } catch (error) {
      this.fail(error.message);
    }
  }

  /** Some browsers hide an early 413 behind a broken connection, so big files ask first. */
  async refuseTooLarge() {
    if (this.file.size < BIG) return;
    const api = await ask("/openapi.json").catch(() => null);
    const limit = api?.paths["/api/upload"].post["x-max-bytes"];
    if (this.file.size > limit) {
      throw new Error(`Too large: this gateway takes files of up to ${sizeText(limit)}.`);
    }
  }

  send() {
    const request = this.request = new XMLHttpRequest();
    const begun = performance.now();
    let last = begun, sent = 0, speed = 0;
    request.upload.onprogress = ({ loaded, total }) => {
      const now = performance.now(), seconds = (now - last) / 1000;
      if (seconds < 0.25 || !total) return;
      const current = (loaded - sent) / seconds;
      speed = speed ? 0.7 * speed + 0.3 * current : current;
      [last, sent] = [now, loaded];
      const left = speed > 0 ? ` · ${timeText((total - loaded) / speed)} left` : "";
      this.show(`${Math.floor(100 * loaded / total)} % · ${sizeText(speed)}/s${left}`, loaded / total);
    };
    request.upload.onload = () => {
      this.seconds = (performance.now() - begun) / 1000;
      this.show("All sent. Storing it…");
    };
    this.show("Sending…", 0);
    return new Promise((resolve, reject) => {
      request.onload = () => {
        let body = {};
        try { body = JSON.parse(request.responseText); } catch { /* the status says enough */ }
        if (request.status < 300) resolve(body);
        else reject(new Error(body.detail || `The gateway answered ${request.status}.`));
      };
      request.onerror = () => reject(new Error("The connection broke before the file was stored."));
      request.onabort = () => reject(new Error("Cancelled."));
      const name = encodeURIComponent(this.file.name);
      const more = this.private ? "&private=1" : "";
      request.open("POST", `/api/upload?name=${name}&wait=${WAIT}${more}`);
      request.setRequestHeader("Content-Type", "application/octet-stream");
      for (const [header, text] of Object.entries(credential())) request.setRequestHeader(header, text);
      request.send(this.file);
    });
  }

  /** Wait for a job that was accepted: from here on the file is safe, whatever happens to us. */
  async follow(job) {
    this.offer("Stop watching", () => this.cancel());
    let wait = 0;
    while (!this.cancelled) {
      try {
        const state = await ask(`/api/status/${job}?wait=${wait}`);
        if (state.state === "DONE") return state;
        if (state.state === "ERROR") throw Object.assign(new Error(state.detail), { final: true });
        const why = state.detail ? `, but it waits: ${state.detail}` : ". Storing it…";
        this.show(`Safe on the gateway${why}`, state.progress || undefined);
        wait = WAIT;
      } catch (error) {
        if (error.final || error.status === 404) throw error;
        this.show(`Safe on the gateway. ${error.message} Asking again…`);
        await pause(3000);
      }
    }
    throw new Error("Not watched any more; the gateway goes on storing it.");
  }

  done(link) {
    const { name, size } = this.file;
    this.item.replaceChildren(...linkRow(link, name, size),
      make("p", { className: "soft" }, this.seconds > 1
        ? `Stored. Sent at ${sizeText(size / this.seconds)}/s.` : "Stored."));
    say(`${name} is stored. Its link is ready.`);
    remember({ link, name, size });
  }
}

async function next() {
  if (running >= AT_ONCE || !queue.length) return;
  running += 1;
  await queue.shift().run();
  running -= 1;
  next();
}

function take(files) {
  const why = readsOnly ? "this gateway only reads." : mayAsk() ? "" : "sign in first.";
  notice("taken", why && files.length && `Nothing was uploaded: ${why}`);
  if (!why) for (const file of files) new Upload(file);
}

$("files").onchange = ({ target }) => { take([...target.files]); target.value = ""; };

let depth = 0;
const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
const mark = (change) => {
  depth = Math.max(0, depth + change);
  document.body.classList.toggle("dragging", depth > 0);
};
addEventListener("dragenter", (event) => { if (holdsFiles(event)) mark(1); });
addEventListener("dragleave", (event) => { if (holdsFiles(event)) mark(-1); });
addEventListener("dragover", (event) => { if (holdsFiles(event)) event.preventDefault(); });
addEventListener("drop", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  mark(-depth);
  const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
  const folders = items.filter((item) => item.webkitGetAsEntry?.()?.isDirectory);
  notice("folder", folders.length && "Folders can't be dropped here yet; zip it, and drop that.");
  take(items.filter((item) => !folders.includes(item)).map((item) => item.getAsFile()));
});
addEventListener("paste", (event) => take([...event.clipboardData.files]));
addEventListener("beforeunload", (event) => { if (running) event.preventDefault(); });

// ---------------------------------------------------------------- look up

let asked = 0;

async function lookUp(text) {
  const turn = asked += 1;
  const show = (...parts) => { if (turn === asked) $("found").replaceChildren(...parts); };
  const found = /[0-9a-f]{56}(?![0-9a-f])/i.exec(text);
  if (!found) {
    show(make("p", { className: "verdict unreadable" },
      "That is not a link: a hash has 56 characters, 0 to 9 and a to f."));
    return;
  }
  const hash = found[0].toLowerCase();
  history.replaceState(null, "", `#${hash}`);
  show(make("p", { className: "soft" }, "Looking…"));
  let head = [];
  try {
    head = describe(await ask(`/api/exists/${hash}`));
    await check(hash, "soft", (...parts) => show(...head, ...parts));
    if (turn === asked) $("lookup").scrollIntoView({ block: "nearest" });
  } catch (error) {
    const text = error.status === 404 ? "There is no file with this hash here." : error.message;
    show(...head, make("p", { className: "verdict unreadable" }, text));
  }
}

function describe(object) {
  const name = object.ext ? `.${object.ext} file` : "File";
  const rows = linkRow(object.link, name, object.size);
  rows[1].lastChild.remove();
  rows.push(make("p", { className: "soft" },
    `Stored ${new Date(object.created * 1000).toLocaleString()}, policy ${object.policy}.`));
  if (PICTURES.test(object.ext) && object.size < 1e7) {
    rows.push(make("img", { src: object.link, alt: "The stored picture", loading: "lazy" }));
  }
  return rows;
}

async function check(hash, mode, show) {
  const report = await ask(`/api/check/${hash}?mode=${mode}`);
  const again = make("button", { type: "button", className: "quiet", textContent: "Read every byte" });
  again.onclick = async () => {
    again.disabled = true;
    again.textContent = "Reading every byte…";
    try { await check(hash, "hard", show); } catch (error) {
      again.disabled = false;
      again.textContent = `${error.message} Try again`;
    }
  };
  const hurt = report.shards.filter((shard) => shard.state !== "present");
  show(
    make("p", { className: `verdict ${report.state}` }, verdict(report)),
    make("ul", { className: "shards", "aria-label": "Shards" }, ...report.shards.map(shardCell)),
    make("ul", { className: "plain" }, ...hurt.map((shard) => make("li", {},
      `Shard ${shard.index}${shard.store && ` on ${shard.store}`}: ${shard.state}`
      + (shard.detail && `, ${shard.detail}`)))),
    make("div", {}, again));
}

function verdict({ state, good, needed, total, content, mode }) {
  const spare = good - needed;
  const how = mode === "hard" ? "every byte was read and is right" : `all ${total} shards are there`;
  if (state === "healthy") return `Whole: ${how}. Any ${spare} of ${total} may be lost.`;
  if (state === "degraded") {
    const may = spare ? `${spare} more may be lost` : "none more may be lost";
    return `Readable: ${good} of ${total} shards are good; ${may}.`;
  }
  const why = content && content !== "good" ? ` ${content}.` : "";
  return `Not readable now: ${countText(good, "good shard")}, ${needed} needed.${why}`;
}

function shardCell({ index, store, state, detail }) {
  const sign = { present: "✓", missing: "✕", corrupt: "!", unknown: "?" }[state] ?? "?";
  return make("li", { className: state, title: [store, state, detail].filter(Boolean).join(" · ") },
    make("b", { "aria-hidden": true }, sign),
    make("span", {}, `${index} · ${store || "nowhere"}`), make("i", { className: "unseen" }, state));
}

$("lookup").querySelector("form").onsubmit = (event) => {
  event.preventDefault();
  lookUp($("hash").value);
};

// ---------------------------------------------------------------- watch

const notices = new Map();

function notice(kind, text) {
  if (text) notices.set(kind, text);
  else notices.delete(kind);
  $("notice").textContent = [...notices.values()].join(" ");
  $("notice").hidden = !notices.size;
}

let readsOnly = false, roleBefore = "";

function showStores({ stores, metadata, uploads }) {
  showRole(metadata, uploads);
  const up = stores.filter((store) => store.state === "up").length;
  $("stores-line").textContent = `${up} of ${countText(stores.length, "store")} up.`;
  $("health").textContent = up === stores.length ? "all stores up"
    : `${countText(stores.length - up, "store")} not up`;
  $("health").className = `pill ${up === stores.length ? "good" : "warn"}`;
  $("store-list").replaceChildren(...stores.map(storeCard));
}

/** Where to upload instead, on a gateway that only reads; and what operators must not miss. */
function showRole(metadata, uploads) {
  const where = metadata?.gateway || metadata?.master;
  const cut = metadata?.role === "slave" && !metadata.connected;
  const reads = metadata?.role === "master" ? `This gateway only reads: ${metadata.refuses}.`
    : "This is a slave: it only reads.";
  readsOnly = !uploads;
  $("drop").hidden = readsOnly;
  $("role").hidden = uploads;
  if (readsOnly && reads + where !== roleBefore) {
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

function storeCard({ name, pool, state, reason, total, free, labels }) {
  const known = total > 0 && free !== null;
  const used = known ? 1 - free / total : 0;
  const place = [pool, labels?.host, labels?.site].filter(Boolean).join(" · ");
  return card(name, make("span", { className: `state ${state}` }, state), used,
    known ? `${Math.round(100 * used)} % · ${sizeText(free)} free` : "room not known",
    reason || place);
}

/** A name, a word beside it, a bar (used: 0 to 1), and lines. */
function card(name, word, used, ...lines) {
  const fill = make("span");
  fill.style.width = `${100 * Math.min(1, used)}%`;
  return make("li", {},
    make("div", { className: "row" }, make("span", { className: "name" }, name), word),
    make("div", { className: used > 0.9 ? "bar full" : "bar", "aria-hidden": true }, fill),
    ...lines.map((line) => make("p", { className: "soft" }, line)));
}

function showHomes({ server, homes }) {
  $("homes").hidden = false;
  const port = server.address.split(":").pop();
  $("homes-line").replaceChildren(
    make("code", {}, `sftp -P ${port} ${homes[0]?.user ?? "USER"}@${location.hostname}`),
    " · host key ", make("code", {}, server.fingerprint),
    ...(homes.length ? [] : [" · a home is made by ",
      make("code", {}, "zerostor ssh-enable USER --key FILE")]));
  $("home-list").replaceChildren(...homes.map(({ user, enabled, used, limit, files, keys }) =>
    card(user, make("span", { className: "soft" }, enabled ? countText(keys.length, "key") : "closed"),
      (used ?? 0) / limit,
      used === undefined ? "being counted" : `${sizeText(used)} of ${sizeText(limit)}`,
      used === undefined ? "" : countText(files, "file"))));
}

const DENIED = [401, 403, 404];

/** Shown only to who may see them; to all others this gateway has none. turn: whose turn began it. */
async function watchHomes(turn) {
  try {
    if (!document.hidden) showHomes(await ask("/api/ssh/homes"));
  } catch (error) {
    $("homes").hidden = true;
    if (DENIED.includes(error.status)) return;
  }
  setTimeout(() => { if (turn === turns) watchHomes(turn); }, HOMES_MS);
}

function showNodes({ hub, nodes }) {
  $("nodes").hidden = false;
  const here = nodes.filter((node) => node.state === "connected").length;
  $("nodes-line").replaceChildren(nodes.length
    ? `${here} of ${countText(nodes.length, "node")} connected · they dial ${hub.address}`
    : "No nodes yet: ", ...(nodes.length ? [] : [make("code", {}, "zerostor node add NAME")]));
  $("node-list").replaceChildren(...nodes.map(nodeCard));
}

function nodeCard({ name, owner, site, state, size, free, chunks, uptime, years_left: years,
                    needs_format: foreign, last_event: last }) {
  const here = state === "connected";
  const word = make("span", { className: `state ${here ? "up" : "down"}` }, here ? "up" : "away");
  const worn = years === null || years === undefined || years > 99 ? "" : ` · flash for ${years} years`;
  return card(name, word, size ? 1 - free / size : 0,
    here ? `${countText(chunks, "chunk")} · ${sizeText(free)} free · up ${timeText(uptime)}` : "",
    [owner, site].filter(Boolean).join(" · ") + worn,
    foreign ? "its flash holds something else" : last ? `${last.kind}: ${last.detail}` : "");
}

function showStreams({ streams }) {
  $("streams-title").hidden = !streams.length;
  $("stream-list").replaceChildren(...streams.map(
    ({ name, size, chunks, waiting, waiting_since: since, last }) =>
    card(name, make("span", { className: `state ${waiting ? "down" : "up"}` }, waiting ? "waits" : "up"),
      chunks ? waiting / chunks : 0, `${sizeText(size)} · ${countText(chunks, "chunk")}`,
      waiting ? `${waiting} wait for nodes since ${new Date(since * 1000).toLocaleString()}`
        : chunks ? "all on nodes" : "grows until a chunk is full",
      last ? `last ${new Date(last * 1000).toLocaleString()}` : "")));
}

function showLedger({ owners }) {
  $("ledger-title").hidden = !owners.length;
  $("ledger-list").replaceChildren(...owners.map(({ owner, chunks, hours, lost, failures, factor, tokens,
                                                    availability }) =>
    card(owner, make("span", { className: "soft" }, countText(tokens, "token")), 1 - factor,
      `${countText(chunks, "chunk")} · ${Math.round(hours)} chunk-hours`,
      `there ${Math.round(availability * 100)} % of the day · factor ${factor.toFixed(2)}`,
      lost || failures ? `${lost} lost · ${failures} failed` : "")));
}

/** Shown where there is a node hub. */
async function watchNodes(turn) {
  try {
    if (!document.hidden) {
      const asked = [ask("/api/nodes"), ask("/api/telemetry"), ask("/api/nodes/ledger")];
      const [nodes, streams, ledger] = await Promise.all(asked);
      showNodes(nodes);
      showStreams(streams);
      showLedger(ledger);
    }
  } catch (error) {
    if (DENIED.includes(error.status)) { $("nodes").hidden = true; return; }
    $("nodes-line").textContent = error.message;
  }
  setTimeout(() => { if (turn === turns) watchNodes(turn); }, POLL_MS);
}

function showJobs({ waiting, running: busy, delayed, oldest, workers, spool, failed }) {
  const counts = [["Waiting", waiting], ["Running", busy], ["Later", delayed], ["In the spool", spool],
    ["Failed", failed.length, failed.length > 0], ["Workers", workers.length, !workers.length]];
  $("counts").replaceChildren(...counts.map(([name, count, bad]) =>
    make("div", { className: bad ? "bad" : "" }, make("dt", {}, name), make("dd", {}, count))));
  notice("workers", !workers.length && "No worker is running: uploads are kept, and wait.");
  notice("oldest", oldest > 60 && `The oldest job waits for ${timeText(oldest)}.`);
  showFailed(failed);
}

let failedBefore = "";

function showFailed(failed) {
  // Drawn anew only when it changed, so that a button keeps the focus.
  if (JSON.stringify(failed) === failedBefore) return;
  failedBefore = JSON.stringify(failed);
  $("failed").replaceChildren(...failed.map(({ job, detail }) => {
    const button = make("button", { type: "button", className: "quiet", textContent: "Try again" });
    button.onclick = async () => {
      button.disabled = true;
      try { await ask(`/api/jobs/${job}/requeue`, { method: "POST" }); watch.jobs(); } catch (error) {
        button.textContent = `${error.message} Try again`;
        button.disabled = false;
      }
    };
    return make("li", { className: "row" },
      make("span", {}, make("code", {}, job.slice(0, 8)), ` ${detail}`), button);
  }));
}

const shut = new Set();         // what who signed in may not see: not asked again

function watcher(path, section, draw) {
  return async () => {
    if (shut.has(path)) return;
    try {
      draw(await ask(path));
      $(section).hidden = false;
      notice("away", "");
      notice(path, "");
    } catch (error) {
      const denied = DENIED.includes(error.status);
      if (denied) $(section).hidden = true;
      if (error.status === 403) {
        shut.add(path);
        $("health").textContent = "signed in";
        $("health").className = "pill";
      }
      if (error.status) notice(path, !denied && error.message);
      else notice("away", "The gateway does not answer. Trying again…");
    }
  };
}

const watch = { stores: watcher("/api/stores", "stores", showStores),
  jobs: watcher("/api/jobs", "jobs", showJobs) };
let round = 0, turns = 0;

async function poll() {
  const mine = round += 1;
  if (document.hidden || !mayAsk()) return;
  await Promise.all([watch.stores(), watch.jobs()]);
  setTimeout(() => { if (mine === round) poll(); }, POLL_MS);
}

document.addEventListener("visibilitychange", poll);
addEventListener("hashchange", () => lookUp(location.hash));
showRecent();
begin(() => {
  const turn = turns += 1;
  shut.clear();
  $("upload").hidden = !mayAsk();
  if (mayAsk()) { poll(); watchHomes(turn); watchNodes(turn); return; }
  for (const section of ["jobs", "stores", "homes", "nodes"]) $(section).hidden = true;
  $("health").textContent = "for who signs in";
  $("health").className = "pill";
});
ask("/healthz").then(({ version }) => { $("version").textContent = `zerostor ${version}`; }, () => {});
if (location.hash.length > 56) { $("hash").value = location.hash.slice(1); lookUp(location.hash); }
