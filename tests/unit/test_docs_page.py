"""The page at /docs draws the whole of the real OpenAPI document, in a real JavaScript engine."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway import page
from gateway.openapi import OPERATIONS, document
from gateway.ssh_schemas import SSH_SCHEMAS

SCRIPT = Path(page.__file__).parent / "explorer" / "docs.js"
BROWSER = """
const ids = {};
const element = () => ({
  href: "", id: "", className: "", textContent: "", tabIndex: 0, type: "", children: [],
  append(...more) { this.children.push(...more); },
  replaceChildren(...more) { this.children = more; },
  setAttribute() {},
  get text() { return this.textContent + this.href
    + this.children.map((child) => child.text ?? child).join(" "); },
});
globalThis.document = { createElement: element,
  getElementById: (id) => id ? (ids[id] ??= element()) : null };
globalThis.location = { origin: "http://127.0.0.1:8080", hash: "" };
globalThis.fetch = async () => ({ json: async () => (%s) });
"""
"""As much of a browser as docs.js needs; its answer to the one request is filled in."""


def drawn() -> str:
    """The text and the addresses of links on the page."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here")
    script = BROWSER % json.dumps(document()) + SCRIPT.read_text() + "\nconsole.log(ids.main.text)"
    return subprocess.run([node, "--input-type=module"], input=script, text=True,
                          capture_output=True, check=True, timeout=60).stdout


def test_every_route_is_on_the_page() -> None:
    text = drawn()
    assert [operation.path for operation in OPERATIONS if operation.path not in text] == []


def test_a_json_body_leads_to_what_it_holds() -> None:
    text = drawn()
    assert "#schema-ProcessPath" in text
    assert set(SSH_SCHEMAS["ProcessPath"]["properties"]) <= set(text.split())
