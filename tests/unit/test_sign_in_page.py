"""Signing in on the page at /, in a real engine: whom it tells the secret, where it keeps it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gateway import page
from tests.unit.test_sign_in import TEXT

SCRIPT = Path(page.__file__).parent / "explorer" / "sign_in.js"
BROWSER = """
const ids = {};
const element = () => ({ hidden: true, textContent: "", value: "", form: {},
  querySelector() { return this.form; } });
globalThis.document = { getElementById: (id) => (ids[id] ??= element()) };
globalThis.location = { origin: "https://store.example" };
const stored = %(stored)s, asked = [];
globalThis.sessionStorage = { getItem: (name) => stored[name] ?? null,
  setItem: (name, text) => { stored[name] = text; },
  removeItem: (name) => { delete stored[name]; } };
globalThis.fetch = async (url, options) => {
  asked.push([url, options]);
  const answer = (status, body) => ({ ok: status < 400, status, json: async () => body });
  if (url === "/api/pubkey") return answer(200, { security: "%(mode)s" });
  return options.headers.Authorization === "Bearer %(good)s" ? answer(%(status)d, {})
    : answer(401, { detail: "no: `zerostor login URL`" });
};
globalThis.enter = async (text) => {
  document.getElementById("secret").value = text;
  await ids["sign-in"].form.onsubmit({ preventDefault() {} });
};
let told = 0;
"""
"""As much of a browser as sign_in.js needs."""
END = """
console.log(JSON.stringify({ stored, asked, told, may: mayAsk(), sent: credential(),
  shown: Object.fromEntries(Object.entries(ids).map(([id, one]) => [id, !one.hidden])),
  why: document.getElementById("sign-in-why").textContent, typed: ids.secret?.value ?? "" }));
"""


def played(mode: str, steps: str, *, kept: str = "", good: str = "right", status: int = 200
           ) -> dict[str, Any]:
    """What came of `steps`, JavaScript, on a page of a gateway in that mode."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here")
    browser = BROWSER % {"mode": mode, "good": good, "status": status, "stored": json.dumps(
        {"zerostor.secret": kept} if kept else {})}
    script = SCRIPT.read_text().replace("export ", "")
    whole = f"{browser}\n{script}\nawait begin(() => {{ told += 1; }});\n{steps}\n{END}"
    done = subprocess.run([node, "--input-type=module"], input=whole, text=True,
                          capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    for url, _ in found["asked"]:
        assert url.startswith("/"), "to no other host"
        assert "right" not in url and "zs1" not in url, "and never in an address"
    return found


def test_where_nothing_is_needed_nothing_is_asked_or_sent() -> None:
    found = played("public", "", kept="old")
    assert (found["may"], found["sent"], found["stored"]) == (True, {}, {})
    assert not found["shown"]["sign-in"]
    assert found["told"] == 1


def test_a_right_secret_opens_and_stays_in_the_tab() -> None:
    found = played("secret", 'await enter(" right ");')
    assert found["may"]
    assert found["sent"] == {"Authorization": "Bearer right"}
    assert found["stored"] == {"zerostor.secret": "right"}
    assert found["shown"]["sign-out"] and not found["shown"]["sign-in"]
    assert (found["typed"], found["why"], found["told"]) == ("", "", 2)
    # A gateway that has no sessions says so to who may ask.
    assert played("secret", 'await enter("right");', status=404)["may"]


@pytest.mark.parametrize("typed", ["wrong", "two words", "right\\r\\nX: y", "pässword", ""])
def test_a_wrong_one_is_not_kept(typed: str) -> None:
    found = played("keys", f'await enter("{typed}");')
    assert (found["may"], found["sent"], found["stored"]) == (False, {}, {})
    assert found["shown"]["sign-in"]
    assert found["why"]
    assert "URL" not in found["why"]


def test_what_is_kept_is_asked_about_once_and_used_or_forgotten() -> None:
    assert played("keys", "", kept="right")["sent"] == {"Authorization": "Bearer right"}
    found = played("keys", "", kept="expired")
    assert (found["may"], found["stored"]) == (False, {})
    assert len(found["asked"]) == 2, "each wrong one is counted against us"


def test_a_refusal_ends_it_but_only_of_what_was_sent() -> None:
    sent = 'const used = credential(); '
    assert not played("keys", sent + 'refused(used, "over");', kept="right")["may"]
    assert played("keys", 'await enter("right"); refused({}, "late");')["may"]
    late = played("keys", 'const old = { Authorization: "Bearer old" }; await enter("right");'
                  ' refused(old, "late");')
    assert late["may"] and late["why"] == ""


def test_who_signs_out_ends_the_session() -> None:
    found = played("keys", 'ids["sign-out"].onclick();', kept=TEXT, good=TEXT)
    assert (found["may"], found["stored"]) == (False, {})
    url, options = found["asked"][-1]
    assert url == "/api/sessions/revoke"
    assert json.loads(options["body"]) == {"session": bytes(range(16)).hex()}
    assert options["headers"]["Authorization"] == f"Bearer {TEXT}"
    shared = played("secret", 'ids["sign-out"].onclick();', kept="right")
    assert shared["asked"][-1][0] == "/api/sessions", "a secret that all share is no session"
