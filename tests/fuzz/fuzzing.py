"""Schemathesis against a real `zerostor up`: as somebody, in one of the security modes."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from nacl.signing import SigningKey

from tests.fakes.running_up import ROOT, Up, tied
from zerostor.core.sign_in import KnownKey, Role, key_line, login_message

FOLDER = Path(__file__).parent
COUNTED = re.compile(r"^\s*(\d+) generated", re.MULTILINE)
SETTINGS = """
[ssh]
enabled = true
listen = "127.0.0.1:0"
[nodes]
enabled = true
listen = "127.0.0.1:0"
[limits]
uploads = 0
"""
"""All that can be asked is on. No limit of uploads: that one is a 429 for nearly each request."""
MODES = {"public": ("stranger",), "secret": ("admin", "stranger"),
         "keys": ("admin", "user", "stranger")}
"""Who asks, by mode."""


class Round(NamedTuple):
    """What came of a run. cases: requests that were made up; told: what schemathesis printed."""

    cases: int
    good: bool
    told: str


class Place:
    """A running zerostor. headers: what somebody sends along, by who he is."""

    def __init__(self, up: Up, headers: dict[str, dict[str, str]]) -> None:
        self.up = up
        self.headers = headers

    def fuzz(self, who: str, examples: int, seed: int, phases: str = "coverage,fuzzing"
             ) -> Round:
        """At most `examples` made-up requests of each operation, and those of the phase coverage.
        """
        command = [sys.executable, "-m", "schemathesis.cli",
                   "--config-file", str(FOLDER / "schemathesis.toml"), "run",
                   f"http://127.0.0.1:{self.up.port}/openapi.json", "--phases", phases,
                   "--max-examples", str(examples), "--seed", str(seed),
                   # They make folders, wherever they are told to.
                   "--exclude-operation-id", "addStore", "--exclude-operation-id", "replaceStore",
                   # Threads that parse at once end in an error of CPython 3.11 (AST recursion).
                   "--workers", "1"]
        for name, text in self.headers[who].items():
            command += ["--header", f"{name}: {text}"]
        environ = os.environ | {"SCHEMATHESIS_HOOKS": "tests.fuzz.checks", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=self.up.folder, env=environ, capture_output=True,
                              text=True, preexec_fn=tied, check=False)
        told = done.stdout + done.stderr
        counted = COUNTED.search(told)
        return Round(int(counted[1]) if counted else 0, done.returncode == 0, told)


@contextmanager
def running(folder: Path, mode: str) -> Iterator[Place]:
    """`up` in that mode, with everything on."""
    folder.mkdir(parents=True, exist_ok=True)
    secret = secrets.token_hex(16)
    (folder / "secret").write_text(secret)
    keys = {name: SigningKey.generate() for name in ("admin", "user")}
    (folder / "keys").write_text("".join(
        key_line(KnownKey(bytes(key.verify_key), name, Role(name))) + "\n"
        for name, key in keys.items()))
    settings = f'[gateway]\nsecurity = "{mode}"\n'
    settings += {"public": "", "secret": f'secret_file = "{folder}/secret"\n',
                 "keys": f'keys_file = "{folder}/keys"\n'}[mode]
    up = Up(folder / "zerostor", settings + SETTINGS)
    try:
        up.start()
        headers: dict[str, dict[str, str]] = {"stranger": {}}
        if mode == "secret":
            headers["admin"] = _bearer(secret)
        if mode == "keys":
            headers |= {name: _bearer(_signed_in(up, key)) for name, key in keys.items()}
        admin = headers.get("admin", {})
        for path in ("/api/ssh/homes", "/api/nodes"):
            up.until(lambda path=path: up.get(path, admin).status == 200, f"{path} answers")
        yield Place(up, headers)
    finally:
        up.close()


def _bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def _signed_in(up: Up, key: SigningKey) -> str:
    date = f"{time.time():.6f}"
    message = login_message(bytes.fromhex(up.get("/api/pubkey").body.decode()), date)
    body = {"key": bytes(key.verify_key).hex(), "date": date,
            "signature": key.sign(message).signature.hex()}
    answer = up.ask("POST", "/api/authenticate", json.dumps(body).encode(),
                    {"Content-Type": "application/json"})
    return str(answer.json["secret"])
