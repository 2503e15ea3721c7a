"""The files that build and start zerostor agree with each other."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.tidy.source_tree import ROOT
from zerostor.config import Config, load

yaml = pytest.importorskip("yaml")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = [
    Requirement(line)
    for line in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
]
PINNED = {
    canonicalize_name(name): version
    for name, version in (
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    )
}


def read(name: str) -> str:
    return (ROOT / name).read_text()


def test_every_dependency_is_pinned_inside_its_range():
    for requirement in DIRECT:
        assert PINNED[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def needed(name: str, extras: tuple[str, ...], seen: set[str]) -> Iterator[str]:
    """Names of all that an installed package needs, by its own metadata."""
    if name in seen:
        return
    seen.add(name)
    yield name
    for line in importlib.metadata.requires(name) or []:
        requirement = Requirement(line)
        wanted = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in extras or ("",)
        )
        if wanted:
            try:
                yield from needed(canonicalize_name(requirement.name), ("",), seen)
            except importlib.metadata.PackageNotFoundError:
                yield canonicalize_name(requirement.name)


def test_what_the_dependencies_need_is_pinned_too():
    seen: set[str] = set()
    for requirement in DIRECT:
        if requirement.marker is None or requirement.marker.evaluate():
            names = needed(canonicalize_name(requirement.name), ("", *requirement.extras), seen)
            assert set(names) <= set(PINNED), requirement


def test_constraints_name_no_place():
    for line in read("constraints.txt").splitlines():
        assert re.fullmatch(r"#.*|[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.+-]*", line), line
        assert "://" not in line


def test_compose_file():
    compose = yaml.safe_load(read("compose.yaml"))
    assert set(compose["services"]) == {"redis", "zerostor"}
    zerostor = compose["services"]["zerostor"]
    assert zerostor["environment"]["REDIS_URL"].startswith("redis://redis:")
    assert zerostor["depends_on"]["redis"]["condition"] == "service_healthy"
    for service in compose["services"].values():
        for volume in service["volumes"]:
            assert volume.partition(":")[0] in compose["volumes"]
    assert all(port.startswith("127.0.0.1:") for port in zerostor["ports"])


CLUSTER = yaml.safe_load(read("compose.cluster.yaml"))


def cluster_settings(folder: Path) -> Config:
    """config/cluster.toml, with secrets in `folder`."""
    text = read("config/cluster.toml")
    for name in CLUSTER["secrets"]:
        (folder / name).write_text("0123456789abcdef")
    (folder / "zerostor.toml").write_text(text.replace("/run/secrets", str(folder)))
    return load(folder, environ={})


def test_cluster_settings(tmp_path):
    config = cluster_settings(tmp_path)
    assert len(config.store) == config.policy["default"].total == 20
    hosts = [store.labels["host"] for store in config.store]
    assert max(map(hosts.count, hosts)) <= config.policy["default"].parity, "a host may be lost"
    for store in config.store:
        assert store.url.startswith(f"zdb://{store.labels['host']}:")
    assert config.cluster.secret
    assert "0123456789abcdef" not in repr(config)


def test_compose_cluster_file(tmp_path):
    services, config = CLUSTER["services"], cluster_settings(tmp_path)
    kinds = [service["command"][0] for service in services.values()]
    assert [kinds.count(kind) for kind in ("gateway", "worker", "keeper", "zdb", "stores")] == [
        2, 3, 1, 6, 1]
    urls = [config.redis.url, *config.metadata.url, *(store.url for store in config.store)]
    assert {urlsplit(url).hostname for url in urls} <= set(services)
    assert set(services) - {"redis"} == {name for name, service in services.items()
                                         if "zerostor" in service["image"]}
    used = set()
    for name, service in services.items():
        used |= {volume.partition(":")[0] for volume in service.get("volumes", [])}
        assert set(service["secrets"]) <= set(CLUSTER["secrets"]), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert set(service.get("depends_on", [])) <= set(services), name
    assert used == set(CLUSTER["volumes"]), "each process has a folder of its own"
    assert (ROOT / CLUSTER["configs"]["cluster"]["file"]).exists()
    # Compose takes $ for its own; the shell of the container is meant.
    assert "$$(cat /run/secrets/redis)" in services["redis"]["command"][-1]


def test_image_has_what_runs_and_nothing_else():
    copied = {
        name
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", read("Dockerfile"), re.MULTILINE)
        for name in line.split()
    }
    allowed = {line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert copied == allowed
    assert packages <= copied
    assert "pyproject.toml" in copied


def test_image_starts_as_it_should():
    lines = read("Dockerfile").splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert users
    assert users[-1] not in ("root", "0")
    assert 'ENTRYPOINT ["zerostor"]' in lines
    assert 'CMD ["up", "--data", "/data", "--listen", "0.0.0.0:8080"]' in lines
    assert "VOLUME /data" in lines
    assert any(line.startswith("HEALTHCHECK") for line in lines)


def test_hadolint():
    beside = Path(sys.executable).with_name("hadolint")
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    found = subprocess.run(
        [hadolint, "--no-color", "-c", str(ROOT / ".hadolint.yaml"), str(ROOT / "Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("name", ["run", "again"])
def test_ci_script(name):
    script = ROOT / ".ci" / name
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "set -euo pipefail" in script.read_text()
    if name == "run":
        assert script.read_text().rstrip().endswith("\nmake test || .ci/again")


@pytest.mark.parametrize("failed, ended, passes, ok", [
    (["a", "b", "c d[1]"], 1, True, True),
    (["a"], 1, False, False),
    (["a", "b", "c", "d"], 1, True, False),
    (["a"], 3, True, False),
    (["a"], None, True, False),
])
def test_only_what_passes_alone_is_forgiven(tmp_path, failed, ended, passes, ok):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/again", tmp_path / ".ci/again")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    (tmp_path / "Makefile").write_text(f"again:\n\t@{'true' if passes else 'false'}\n")
    kept_by_pytest = {"cache/lastfailed": dict.fromkeys(failed, True), "zerostor/ended": ended}
    for name, kept in kept_by_pytest.items():
        path = tmp_path / ".pytest_cache/v" / name
        path.parent.mkdir(parents=True)
        if kept is not None:
            path.write_text(json.dumps(kept))
    ran = subprocess.run([tmp_path / ".ci/again"], capture_output=True, text=True, check=False)
    assert (ran.returncode == 0) is ok, ran.stderr
    assert ran.stdout.count("UNSTEADY") == (len(failed) if ok else 0)


@pytest.mark.parametrize("target", ["run", "test", "again", "lint", "bench", "picture", "clean"])
def test_make_target(target):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    found = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip()
    assert "./data" not in found.stdout


def test_make_refuses_an_old_python(tmp_path):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    arguments = [f"PYTHON={old}", f"VENV={tmp_path / 'venv'}", f"{tmp_path / 'venv'}/bin/python"]
    found = subprocess.run(
        ["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode != 0
    assert "needs Python 3.11" in found.stderr
    assert not (tmp_path / "venv").exists()


def test_licence():
    assert PROJECT["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in read("LICENSE")
