"""https: the certificate and its key, read again when they change, and what clients may speak.

As Mozilla's "intermediate" has it: TLS 1.2 with ECDHE and an AEAD, or 1.3. A new pair of files is
for connections that come then; those that are open keep theirs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from pathlib import Path
from typing import TypeAlias

from cryptography import x509

from zerostor.core.errors import SetupError
from zerostor.ports import Clock

_log = logging.getLogger(__name__)

PERIOD = 1.0
"""Seconds between looks at the files; a change is taken up when two looks saw the same."""
CIPHERS = ":".join(f"ECDHE-{kind}-{cipher}" for cipher in (
    "AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305") for kind in ("ECDSA", "RSA"))
"""Of TLS 1.2; those of 1.3 are all good."""
CURVE = "prime256v1"
"""Python before 3.15 lets one curve be named, or all that OpenSSL has, of which some are not in
that list. Whoever speaks TLS speaks this one."""
_Seen: TypeAlias = tuple[tuple[int, int, int], ...]


class Certificates:
    """Of one gateway. cert: PEM, the chain after the certificate itself; key: PEM, its own.

    context: for the next connection. expires: epoch seconds. problem: why the files that are there
    now are not in use, else empty. Raises SetupError when they cannot be used from the start.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._files = (cert, key)
        self._seen = self._loaded = self._look()
        self.problem = ""
        self.context, self.expires = self._load()

    def problems(self) -> list[str]:
        """As /readyz lists them; none of them keeps uploads away."""
        return [self.problem] if self.problem else []

    async def run(self, clock: Clock) -> None:
        """Watch the files until cancelled."""
        while True:
            await clock.sleep(PERIOD)
            await self.look_again()

    @property
    def place(self) -> str:
        """Where the certificate is."""
        return str(self._files[0])

    async def look_again(self) -> None:
        """Take up a change that the look before saw as well: files are written one by one."""
        before, self._seen = self._seen, self._look()
        if self._seen == self._loaded or self._seen != before:
            return
        self._loaded = self._seen
        try:
            self.context, self.expires = await asyncio.to_thread(self._load)
        except SetupError as error:
            self.problem = f"{error}; the certificate of before stays in use"
            _log.error("%s", self.problem)
        else:
            self.problem = ""
            _log.info("the certificate in %s is in use from now on", self._files[0])

    def _look(self) -> _Seen:
        seen = []
        for file in self._files:
            try:
                found = os.stat(file)
                seen.append((found.st_mtime_ns, found.st_size, found.st_ino))
            except OSError:
                seen.append((0, 0, 0))
        return tuple(seen)

    def _load(self) -> tuple[ssl.SSLContext, float]:
        cert, key = self._files
        context = server_context()
        try:
            # Without a password: OpenSSL would ask for one on the terminal.
            context.load_cert_chain(cert, key, password="")
            expires = x509.load_pem_x509_certificate(cert.read_bytes()).not_valid_after_utc
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SetupError(f"the certificate in {cert} with the key in {key} cannot be used:"
                             f" {reason}") from error
        return context, expires.timestamp()


def server_context() -> ssl.SSLContext:
    """What we speak, without a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_ecdh_curve(CURVE)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # They know whether they have AES in hardware; all of ours are good.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    return context
