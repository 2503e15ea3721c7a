// What the gateway says by itself, at GET /api/events: server-sent events, read with fetch, for an
// EventSource cannot send a credential, and one in an address would be in logs.

import { pause } from "./dom.js";
import { credential, refused } from "./sign_in.js";

const AGAIN_MS = 1000, AGAIN_MAX_MS = 15000, REFUSED_MS = 30000;
const SILENT_MS = 60000;        // a stream that says nothing for so long is dead; comments count
const LINE_MAX = 4e6;           // no snapshot is larger

/** Feed it text, cut anywhere; it calls give(name, text, id) for each whole message. */
export function parser(give) {
  let rest = "", name = "", data = [], id;
  const line = (text) => {
    if (text === "") {
      if (data.length) give(name || "message", data.join("\n"), id);
      [name, data] = ["", []];
      return;
    }
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(text);
    if (field === "data") data.push(value);
    else if (field === "event") name = value;
    else if (field === "id") id = value;
  };
  return (text) => {
    rest += text;
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    if (rest.length > LINE_MAX) throw new Error("a line without end");
    lines.forEach(line);
  };
}

/** Listen while the page is seen, for as long as `wanted()`. take(name, body): one message;
 *  turned(how): "live", or "asking" while there is no stream. last: the id to go on from. */
export async function listen({ take, turned, wanted, last }) {
  let again = AGAIN_MS;
  while (wanted()) {
    if (document.hidden) await seen();
    const how = await once({ wanted, last, turned, take });
    turned("asking");
    if (how === "refused") { await pause(REFUSED_MS); continue; }
    again = how === "ended" ? AGAIN_MS : Math.min(AGAIN_MAX_MS, 2 * again);
    await pause(again * (0.5 + Math.random() / 2));
  }
}

/** One connection, to its end: "refused", "ended" after it was there, or "broke" before. */
async function once({ wanted, last, turned, take }) {
  const stop = new AbortController();
  let timer, began = false;
  const heard = () => { clearTimeout(timer); timer = setTimeout(() => stop.abort(), SILENT_MS); };
  const hidden = () => { if (document.hidden || !wanted()) stop.abort(); };
  document.addEventListener("visibilitychange", hidden);
  const used = credential();
  try {
    heard();
    const from = last();
    const answer = await fetch("/api/events", { signal: stop.signal, cache: "no-store",
      headers: { Accept: "text/event-stream", ...used, ...(from ? { "Last-Event-ID": String(from) } : {}) } });
    if (!answer.ok || !/^text\/event-stream/.test(answer.headers.get("Content-Type"))) {
      if (answer.status === 401) refused(used, "Your session is over.");
      stop.abort();
      return answer.status >= 500 ? "broke" : "refused";
    }
    began = true;
    turned("live");
    const feed = parser((name, text) => take(name, JSON.parse(text)));
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part = await reader.read(); !part.done && wanted(); part = await reader.read()) {
      heard();
      feed(part.value);
    }
  } catch { /* it broke, or nobody looks: begun again by who called */ } finally {
    clearTimeout(timer);
    stop.abort();
    document.removeEventListener("visibilitychange", hidden);
  }
  return began ? "ended" : "broke";
}

function seen() {
  return new Promise((done) => {
    document.addEventListener("visibilitychange", function look() {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", look);
      done();
    });
  });
}
