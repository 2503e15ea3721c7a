"""What [ssh] may say."""

from __future__ import annotations

from zerostor.core.errors import SetupError
from zerostor.core.settings import SshSettings, nearest

CONNECTIONS_MAX = 5000


def check_ssh(ssh: SshSettings) -> None:
    """Raise SetupError for values of [ssh] that do not exist or leave no room."""
    for name, value, known in (("quota", ssh.quota, ("refuse", "drop-oldest")),
                               ("rsync", ssh.rsync, ("confined", "unconfined", "off")),
                               ("admin", ssh.admin, ("local", "anyone"))):
        if value not in known:
            raise SetupError(f"ssh.{name} is {value!r}{nearest(value, known)}")
    for name, number in (("connections", ssh.connections),
                         ("user_connections", ssh.user_connections)):
        if not 1 <= number <= CONNECTIONS_MAX:
            raise SetupError(f"ssh.{name} is {number}; it may be 1 to {CONNECTIONS_MAX}")
    if ssh.login_timeout < 1:
        raise SetupError(f"ssh.login_timeout is {ssh.login_timeout:g} s: nobody logs in so quickly")
