// Who asks: what opens this gateway, kept in this tab until it is closed, and sent to no other host.

const AGAIN_MS = 3000;
const KEPT = "zerostor.secret";
const WAYS = {
  secret: "Uploads and what runs here are for those who have the secret of this gateway.",
  keys: "Uploads and what runs here are for those whose key is known here. In a terminal, zerostor"
    + ` login --show ${location.origin} prints a secret for a day.`,
};
const $ = (id) => document.getElementById(id);
let mode = "public", secret = "", role = "", tell = () => {};

export const mayAsk = () => mode === "public" || secret !== "";
/** What an admin may; the gateway decides, this only says which buttons are shown. */
export const mayAdminister = () => mode === "public" || (secret !== "" && role === "admin");
/** Where nobody signs in, only programs on the gateway's own host remove anything. */
export const mayRemove = () => secret !== ""
  || (mode === "public" && /^(localhost|127\.[\d.]+|\[::1\])$/.test(location.hostname));
export const credential = () => (secret ? { Authorization: `Bearer ${secret}` } : {});

function keep(text) {
  secret = text;
  try {
    if (text) sessionStorage.setItem(KEPT, text);
    else sessionStorage.removeItem(KEPT);
  } catch { /* kept until the page is loaded anew */ }
  $("sign-in").hidden = mayAsk();
  $("sign-out").hidden = !secret;
  tell();
}

/** The gateway answered 401 to what was asked with `used`, the headers of `credential`. */
export function refused(used, why) {
  if (mode === "public" || used.Authorization !== credential().Authorization) return;
  $("sign-in-why").textContent = used.Authorization ? why : "";
  if (secret) keep("");
}

/** Whether `text` opens the gateway; why not is on the page then. One question: wrong ones are counted. */
async function opens(text) {
  let why = "";
  if (!/^[\x21-\x7e]+$/.test(text)) why = "That is no secret.";
  else try {
    const answer = await fetch("/api/sessions", {
      headers: { Accept: "application/json", Authorization: `Bearer ${text}` } });
    const body = await answer.json().catch(() => ({}));
    // Who has the secret that all have is an admin, and has no session.
    role = body.sessions?.find((session) => session.current)?.role ?? "admin";
    if (answer.status === 401 || answer.status === 429) {
      why = (body.detail || "That does not open this gateway.").replace("URL", location.origin);
    }
  } catch { /* whether it is wrong is not known then */ }
  $("sign-in-why").textContent = why;
  return !why;
}

$("sign-in").querySelector("form").onsubmit = async (event) => {
  event.preventDefault();
  const text = $("secret").value.trim();
  $("secret").value = "";
  if (await opens(text)) keep(text);
};

/** The id of the session in a token of `zerostor login`; empty for a secret that others have too. */
function sessionIn(text) {
  if (!text.startsWith("zs1.")) return "";
  const bytes = atob(text.slice(4).replaceAll("-", "+").replaceAll("_", "/"));
  return [...bytes.slice(1, 17)].map((byte) => byte.charCodeAt(0).toString(16).padStart(2, "0")).join("");
}

$("sign-out").onclick = () => {
  const used = credential();
  try {
    const session = sessionIn(secret);
    if (session) fetch("/api/sessions/revoke", { method: "POST", keepalive: true,
      headers: { "Content-Type": "application/json", ...used },
      body: JSON.stringify({ session }) }).catch(() => {});
  } catch { /* no token after all */ }
  keep("");
};

/** Find out whether one has to sign in; `changed` is called then, and whenever that changes. */
export async function begin(changed) {
  tell = changed;
  for (let known = false; !known;) {
    try {
      const answer = await fetch("/api/pubkey", { headers: { Accept: "application/json" } });
      if (answer.ok) mode = (await answer.json()).security ?? mode;
      known = true;
    } catch {
      tell();
      await new Promise((done) => { setTimeout(done, AGAIN_MS); });
    }
  }
  $("sign-in-line").textContent = WAYS[mode] ?? "";
  let kept = "";
  try { kept = sessionStorage.getItem(KEPT) ?? ""; } catch { /* a private window */ }
  keep(mode !== "public" && kept && await opens(kept) ? kept : "");
}
