"""The SSH server as others see it: whether it answers, and by which key it is known."""

from __future__ import annotations

import base64
import hashlib
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zerostor.config import Config

ANSWER_WAIT = 1.0


class SshFace:
    """Asked by `zerostor up`, without the cryptography that the server itself loads."""

    def __init__(self, config: Config) -> None:
        self._listen = config.ssh.listen
        self._public = config.paths.host_key.with_suffix(".pub")
        self._log = config.paths.logs / "ssh.log"

    def answers(self) -> bool:
        """Whether a client would be greeted now."""
        try:
            with socket.create_connection(self._listen.reachable, ANSWER_WAIT) as trial:
                return trial.recv(4) == b"SSH-"
        except OSError:
            return False

    def line(self) -> str:
        """For the start screen."""
        fingerprint = self.fingerprint()
        if not fingerprint or not self.answers():
            return f"does not answer on {self._listen}; see {self._log}"
        return f"{self._listen}, host key {fingerprint}"

    def fingerprint(self) -> str:
        """As ssh-keygen -l prints it, "" while there is no key."""
        try:
            blob = base64.b64decode(self._public.read_bytes().split()[1])
        except (OSError, ValueError, IndexError):
            return ""
        digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
        return f"SHA256:{digest.rstrip('=')}"
