"""README's "Who may use it": its nine lines run as written, but for what a person would type."""

from __future__ import annotations

import re
from pathlib import Path

from tests.fakes.ssh_server import ROOT
from tests.fakes.terminals import opened
from tests.integration.test_nodes_up import until

SECTION = (ROOT / "README.md").read_text().split("## Who may use it")[1].split("\n## ")[0]
(LINES,) = re.findall(r"^```sh\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
SECRET = "a-secret-of-the-readers-own"


def test_three_modes_in_nine_lines(tmp_path: Path) -> None:
    lines = [re.sub(r" +#.*", "", line) for line in LINES.splitlines()]
    public, secret, ask, curl, keygen, add, keys, login, put = lines
    with opened(tmp_path) as terminals:
        run, gateway = terminals.run, terminals.gateway
        (terminals.place / "photo.jpg").write_bytes(b"light")
        (terminals.place / "secret").write_text(SECRET)

        def up(line: str) -> None:
            for process in terminals.running:
                terminals.stop(process)
            seen = terminals.screen().count("Ctrl-C") if terminals.running else 0
            terminals.start(line.replace("=SECRET", f"={SECRET}"))
            until(lambda: terminals.screen().count("Ctrl-C") > seen)

        up(public)
        assert run("zerostor put photo.jpg").startswith("http")
        up(secret)
        assert "zerostor login" in run("zerostor put photo.jpg 2>&1 || true")
        assert '"job"' in run(curl.replace("SECRET", SECRET))
        run(f"{ask} --yes --secret-file secret")
        assert run("zerostor put photo.jpg").startswith("http")
        key, name = run(keygen).split()[:2]
        assert name
        run(add.replace("KEY", key))
        up(keys)
        assert "zerostor login" in run(f"{put.replace('127.0.0.1:8080', gateway)} 2>&1 || true")
        run(f"{login} --yes")
        assert run(put).startswith(f"https://{gateway}/")
        assert "anna" in run(f"zerostor sessions ls --server https://{gateway}")
