// Jobs moving through: spool, queue, workers, stored; and those that failed, to be tried again.

import { tell } from "./ask.js";
import { $, button, keyed, make, notice, numberText, timeText, write } from "./dom.js";

const FAILED_ROWS = 50;
let storedBefore = 0;

/** Stored since this page was opened, as events and figures tell it. */
export function countStored(count) {
  storedBefore += count;
  const shown = $("counts").querySelector("[data-key=stored] dd");
  if (shown) write(shown, numberText(storedBefore));
}

/** jobs: as GET /api/jobs answers. */
export function showJobs({ waiting, running, delayed, oldest, workers, spool, failed }) {
  const stations = [
    { key: "spool", name: "In the spool", count: spool, why: "accepted, safe on disk" },
    { key: "queued", name: "Queued", count: waiting,
      why: delayed ? `and ${numberText(delayed)} to be tried later` : "for a worker" },
    { key: "running", name: "Running", count: running,
      why: workers.length === 1 ? "on 1 worker" : `on ${workers.length} workers`, bad: !workers.length },
    { key: "stored", name: "Stored", count: storedBefore, why: "since this page is open" },
    { key: "failed", name: "Failed", count: failed.length, why: "kept, to be tried again",
      bad: failed.length > 0 }];
  keyed($("counts"), stations, ({ key }) => key, station);
  $("counts").classList.toggle("moving", running > 0);
  notice("workers", !workers.length && "No worker is running: uploads are kept, and wait.");
  notice("oldest", oldest > 60 && `The oldest job waits for ${timeText(oldest)}.`);
  $("failed-more").hidden = failed.length <= FAILED_ROWS;
  write($("failed-more"), `${numberText(failed.length - FAILED_ROWS)} more are in: zerostor jobs`);
  keyed($("failed"), failed.slice(0, FAILED_ROWS), ({ job }) => job, failedRow);
}

function station({ name, count, why, bad }) {
  return make("div", { className: bad ? "bad" : "" },
    make("dt", {}, name), make("dd", {}, numberText(count)), make("dd", { className: "soft" }, why));
}

function failedRow({ job, detail }) {
  const again = button("Try again", async (pressed) => {
    await tell(`/api/jobs/${job}/requeue`);
    pressed.textContent = "Queued";
  }, { "aria-label": `Try job ${job.slice(0, 8)} again` });
  return make("li", { className: "row" },
    make("span", {}, make("code", {}, job.slice(0, 8)), " ", make("bdi", {}, detail)), again);
}
