"""One client: who it is, and what it may open. Everything but sessions is refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NoReturn, cast

import asyncssh

from sshgw.admission import Admission
from sshgw.connection import Connection
from sshgw.session import Session
from zerostor.core.homes import is_user_name
from zerostor.engine.audit import Audit, AuditLine
from zerostor.engine.homes import Homes

_log = logging.getLogger(__name__)

KEYS_TRIED_MAX = 32
"""Public keys that one connection may try: an agent offers all it has."""
SESSIONS_MAX = 4
"""Channels that one connection may have at a time; each may hold some MB."""
ACCEPTED_LOGIN, REFUSED_LOGIN, TOO_MANY_LOGINS = 200, 401, 429
"""As HTTP has it, in the audit log."""
TOO_MANY = asyncssh.DISC_TOO_MANY_CONNECTIONS
_SHA2 = {b"rsa-sha2-256", b"rsa-sha2-512"}


class Login(asyncssh.SSHServer):
    """open_session: (user, what to call when its channel is gone) -> a session. audit: where it is
    written down who logged in, and who did not.
    """

    def __init__(self, homes: Homes, admission: Admission,
                 open_session: Callable[[str, Callable[[], None]], Session],
                 audit: Audit | None = None) -> None:
        self._homes = homes
        self._audit = audit
        self._admission = admission
        self._open_session = open_session
        self._user = self._fingerprint = self._address = ""
        self._asked = self._offered = ""
        self._told = False
        self._tried = self._sessions = 0

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Somebody connected."""
        self._connection = conn
        peer = conn.get_extra_info("peername")
        self._address = str(peer[0]) if peer else "somebody"

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """It is gone."""
        self._admission.left(self._connection, self._user)
        if self._asked and not self._told:
            self._write_down(REFUSED_LOGIN)

    def begin_auth(self, username: str) -> bool:
        """Somebody wants to log in."""
        self._asked = username
        return True

    def public_key_auth_supported(self) -> bool:
        """Keys, and nothing else."""
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Whether `key` is one of the user's. An unknown user looks like one without that key."""
        self._tried += 1
        if self._tried > KEYS_TRIED_MAX:
            self._connection.disconnect(
                asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE,
                f"more than {KEYS_TRIED_MAX} keys were tried: name the right one with"
                " -o IdentitiesOnly=yes -i FILE")
            return False
        fingerprint = self._offered = key.get_fingerprint()
        if not self._has(username, fingerprint):
            self._admission.tell("key", f"{self._address} tried a key that {username!r:.80} does"
                                        f" not have: {fingerprint}")
            return False
        if key.get_algorithm() == "ssh-rsa":
            # The library would still verify a signature over SHA-1.
            key.all_sig_algorithms = _SHA2
        self._user, self._fingerprint = username, fingerprint
        return True

    def _has(self, user: str, fingerprint: str) -> bool:
        home = self._homes.find(user)
        known = {one.fingerprint for one in home.keys} if home and home.enabled else set()
        return fingerprint in known

    def auth_completed(self) -> None:
        """The client proved that it has the key."""
        if not self._has(self._user, self._fingerprint):
            self._connection.disconnect(
                asyncssh.DISC_BY_APPLICATION, "the key was removed a moment ago")
            return
        reason = self._admission.logged_in(self._connection, self._user, self._fingerprint)
        if reason:
            self._write_down(TOO_MANY_LOGINS)
            self._connection.disconnect(TOO_MANY, reason)
            return
        self._write_down(ACCEPTED_LOGIN)
        _log.info("%s logged in from %s with %s", self._user, self._address, self._fingerprint)

    def _write_down(self, status: int) -> None:
        """In the audit log, once: an agent offers many keys. Of names that are none of a home, and
        of what a client chose besides, nothing.
        """
        self._told = True
        if self._audit is None:
            return
        known = status != REFUSED_LOGIN
        on = {"key": self._offered} if self._offered else {}
        if not known and is_user_name(self._asked):
            on["home"] = self._asked
        self._audit.tell(AuditLine(
            round(self._audit.clock.now(), 3), who=self._user if known else "",
            address=self._address, method="SSH", route="login", on=on, status=status))

    def session_requested(self) -> Session:
        """A channel for sftp, scp or rsync."""
        if self._sessions >= SESSIONS_MAX:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE,
                                            f"{SESSIONS_MAX} sessions share this connection"
                                            " already")
        self._sessions += 1
        connection = cast("Connection", self._connection)

        def gone() -> None:
            self._sessions -= 1
            connection.detach(session)

        session = self._open_session(self._user, gone)
        connection.attach(session)
        return session

    def connection_requested(self, *_: object) -> NoReturn:
        """-L, -D and -J are refused."""
        _no_forwarding()

    def unix_connection_requested(self, *_: object) -> NoReturn:
        """As `connection_requested`, for sockets."""
        _no_forwarding()

    def tun_requested(self, *_: object) -> NoReturn:
        """As `connection_requested`, for network devices."""
        _no_forwarding()

    def tap_requested(self, *_: object) -> NoReturn:
        """As `tun_requested`."""
        _no_forwarding()

    def server_requested(self, *_: object) -> bool:
        """-R is refused."""
        return False

    def unix_server_requested(self, *_: object) -> bool:
        """As `server_requested`, for sockets."""
        return False


def _no_forwarding() -> NoReturn:
    raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED,
                                    "nothing is forwarded here: sftp, scp and rsync only")
