"""README's "A disk died, what now?": its commands run as written."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from tests.fakes.ssh_server import ROOT
from tests.fakes.terminals import opened
from tests.integration.test_nodes_up import until

SECTION = (ROOT / "README.md").read_text().split("## A disk died, what now?")[1].split("\n## ")[0]
(LINES,) = re.findall(r"^```sh\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)


def test_a_disk_died(tmp_path: Path) -> None:
    look, replace, check = (re.sub(r" +#.*", "", line) for line in LINES.splitlines())
    with opened(tmp_path) as terminals:
        run = terminals.run
        terminals.start("zerostor up")
        until(lambda: "Ctrl-C" in terminals.screen())
        for name, size in (("small", 20), ("large", 3_000_000)):
            (terminals.place / name).write_bytes(os.urandom(size))
            assert run(f"zerostor put {name}").startswith("http")
        stores = terminals.place / "data" / "stores"
        shutil.move(stores / "05", terminals.place / "dead")
        until(lambda: "the folder is gone" in run(look))
        assert "new-05 has taken the place of 05" in run(replace)
        whole = run(check)
        assert "degraded" not in whole, whole
        assert " 05 " not in run(look)
        # And a new disk where the old one was.
        shutil.move(stores / "07", terminals.place / "dead too")
        until(lambda: "the folder is gone" in run(look))
        assert "is ready" in run("zerostor stores init 07")
        until(lambda: "degraded" not in run(f"{check} || true"))
