"""`python -m gateway.lifeline FD COMMAND...`: run COMMAND until it ends or the pipe FD is closed.

For systems without PR_SET_PDEATHSIG: the supervisor holds the other end, and however it dies, the
kernel closes it. SIGTERM is passed on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def watch(fd: int, command: list[str]) -> int:
    """The exit code of `command`, 128 + N if signal N ended it."""
    process = subprocess.Popen(command)  # noqa: S603
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())

    def cut() -> None:
        while os.read(fd, 64):
            pass
        process.kill()

    threading.Thread(target=cut, daemon=True).start()
    code = process.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(watch(int(sys.argv[1]), sys.argv[2:]))
