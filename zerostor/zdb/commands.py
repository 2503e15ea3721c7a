"""The commands, as a table; each module of commands brings its rows. Reply texts are 0-db's.

A handler returns its reply encoded, or Held, or Parting; see zerostor/zdb/session.py.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from zerostor.core.errors import LogCorrupt, MetadataUnavailable
from zerostor.core.resp import error
from zerostor.zdb import (
    entry_commands,
    log_commands,
    namespace_commands,
    system_commands,
    wait_commands,
    walk_commands,
)
from zerostor.zdb.session import DENIED, Answer, Command, Parting, Refusal, Session

log = logging.getLogger(__name__)

TABLE: Final[Mapping[bytes, Command]] = {
    command.name: command
    for module in (
        wait_commands, system_commands, entry_commands, walk_commands, namespace_commands,
        log_commands,
    )
    for command in module.COMMANDS
}

_UNSUPPORTED = error("Command not supported")
_INTERNAL = error("Internal Error")
_EMPTY = error("Invalid argument")
_REMOVED = Parting(
    error("Your active namespace is not available anymore (probably removed).")
)


def execute(session: Session, arguments: Sequence[bytes]) -> Answer:
    """Run one request, then tell those who wait for its command."""
    namespace = session.namespace
    if namespace.removed:
        return _REMOVED
    command = TABLE.get(arguments[0]) or TABLE.get(arguments[0].upper())
    if command is None:
        session.shared.counters.failed += 1
        return _UNSUPPORTED
    if not (session.told or command.always) or (command.admin and not session.admin):
        session.shared.counters.unauthorized += 1
        answer: Answer = DENIED
    elif not command.least < len(arguments) <= command.most + 1:
        answer = error(command.misuse)
    elif command.filled and b"" in arguments:
        answer = _EMPTY
    else:
        try:
            answer = command.handler(session, arguments)
        except (Refusal, LogCorrupt, MetadataUnavailable) as reason:
            answer = _refused(reason)
    if namespace.watches and session.told:
        wait_commands.tell(namespace, session, command.name)
    return answer


def _refused(reason: Refusal | LogCorrupt | MetadataUnavailable) -> bytes:
    if isinstance(reason, Refusal):
        return error(str(reason))
    if isinstance(reason, LogCorrupt):
        log.error("%s", reason)
        return _INTERNAL
    return error(f"Cannot write data right now: {reason}")
