// Files on their way: two at a time, the others in line. However many there are, few are drawn.

import { ask } from "./ask.js";
import { $, button, countText, draw, make, notice, pause, say, sizeText, soft, timeText } from "./dom.js";
import { linkRow, remember } from "./links.js";
import { credential, mayAsk } from "./sign_in.js";

const AT_ONCE = 2;
const WAIT = 30;                // seconds the gateway may hold a question open
const BIG = 32e6;               // from this size on, the limit is asked for before sending
const ROWS = { waiting: 5, failed: 20, done: 20 };
const line = [], failed = [], done = [];
const running = new Set();
let whyNot = () => "";

class Upload {
  constructor(file) {
    this.file = file;
    this.private = $("private").checked;
    this.text = "Waiting for its turn…";
  }

  /** Its row, made when it is first seen. */
  row() {
    if (this.item) return this.item;
    const { name, size } = this.file;
    this.fill = make("span");
    this.bar = make("div", { className: "bar", role: "progressbar",
      "aria-label": `Upload of ${name}`, "aria-valuemin": 0, "aria-valuemax": 100 }, this.fill);
    this.line = soft(this.text);
    this.button = make("button", { type: "button", className: "quiet" });
    this.item = make("li", {},
      make("div", { className: "row" }, make("bdi", { className: "name" }, name),
        make("span", { className: "soft" }, sizeText(size)), this.button),
      this.bar, this.line);
    this.offer("Cancel", () => this.cancel());
    return this.item;
  }

  show(text, part) {
    this.row();
    this.line.textContent = this.text = text;
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
    const at = line.indexOf(this);
    if (at >= 0) { line.splice(at, 1); this.fail("Cancelled."); }
  }

  again() {
    failed.splice(failed.indexOf(this), 1);
    this.cancelled = false;
    this.item.classList.remove("failed");
    this.bar.hidden = false;
    this.show("Waiting for its turn…", 0);
    this.offer("Cancel", () => this.cancel());
    line.push(this);
    next();
  }

  fail(text) {
    failed.unshift(this);
    this.row();
    this.bar.hidden = true;
    this.item.classList.add("failed");
    this.line.textContent = text;
    this.offer("Try again", () => this.again());
    say(`${this.file.name}: ${text}`);
    show();
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
    this.item.replaceChildren(...linkRow(link, name, size), soft(this.seconds > 1
      ? `Stored. Sent at ${sizeText(size / this.seconds)}/s.` : "Stored."));
    done.unshift(this);
    // Of those that are drawn no more only the count is of use.
    if (done.length > ROWS.done) done[ROWS.done].file = done[ROWS.done].item = null;
    if (!line.length) say(`${name} is stored. Its link is ready.`);
    remember({ link, name, size });
  }
}

function next() {
  while (running.size < AT_ONCE && line.length) {
    const upload = line.shift();
    running.add(upload);
    upload.run().finally(() => { running.delete(upload); next(); });
  }
  show();
}

const show = () => draw("uploads", () => {
  const rows = [...running, ...line.slice(0, ROWS.waiting), ...failed.slice(0, ROWS.failed),
    ...done.slice(0, ROWS.done)].map((upload) => upload.row());
  const list = $("uploads");
  rows.forEach((row, at) => {
    if (list.children[at] !== row) list.insertBefore(row, list.children[at] ?? null);
  });
  while (list.children.length > rows.length) list.lastElementChild.remove();
  const counts = [[running.size, "on the way"], [line.length, "waiting"], [done.length, "stored"],
    [failed.length, "failed"]].filter(([count]) => count);
  const many = line.length > ROWS.waiting || done.length > ROWS.done || failed.length > ROWS.failed;
  $("uploads-line").hidden = !many && line.length < 2;
  $("uploads-line").firstElementChild.textContent =
    counts.map(([count, word]) => `${countText(count, "file")} ${word}`).join(" · ");
  $("cancel-all").hidden = line.length < 2;
});

function cancelAll() {
  const count = line.length;
  for (const upload of line.splice(0)) { upload.cancelled = true; }
  say(`${countText(count, "file")} will not be uploaded.`);
  show();
}

export function take(files) {
  const why = whyNot() || (mayAsk() ? "" : "sign in first.");
  notice("taken", why && files.length && `Nothing was uploaded: ${why}`);
  if (why) return;
  for (const file of files) line.push(new Upload(file));
  next();
}

// ---------------------------------------------------------------- ways in

let depth = 0;
const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
const mark = (change) => {
  depth = Math.max(0, depth + change);
  document.body.classList.toggle("dragging", depth > 0);
};

function dropped(event) {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  mark(-depth);
  const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
  const folders = items.filter((item) => item.webkitGetAsEntry?.()?.isDirectory);
  notice("folder", folders.length && "Folders can't be dropped here yet; zip it, and drop that.");
  take(items.filter((item) => !folders.includes(item)).map((item) => item.getAsFile()));
}

/** reason: tells why this gateway takes nothing now, or nothing. */
export function beginUploads(reason) {
  whyNot = reason;
  $("files").onchange = ({ target }) => { take([...target.files]); target.value = ""; };
  $("cancel-all").replaceWith(button("Cancel those that wait", cancelAll, { id: "cancel-all", hidden: true }));
  addEventListener("dragenter", (event) => { if (holdsFiles(event)) mark(1); });
  addEventListener("dragleave", (event) => { if (holdsFiles(event)) mark(-1); });
  addEventListener("dragover", (event) => { if (holdsFiles(event)) event.preventDefault(); });
  addEventListener("drop", dropped);
  addEventListener("paste", (event) => take([...event.clipboardData.files]));
  addEventListener("beforeunload", (event) => { if (running.size) event.preventDefault(); });
}
