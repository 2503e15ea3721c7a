// Questions to the gateway this page came from, and to no other.

import { credential, refused } from "./sign_in.js";

export const DENIED = [401, 403, 404];

/** The JSON at `path`. Throws an Error with a sentence for a person; `status` is 0 without answer. */
export async function ask(path, options = {}) {
  let response, body;
  const used = credential();
  try {
    response = await fetch(path, { ...options,
      headers: { Accept: "application/json", ...used, ...options.headers } });
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

export const tell = (path, body) => ask(path, { method: "POST",
  ...(body && { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }) });
