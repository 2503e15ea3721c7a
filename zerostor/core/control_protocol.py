"""What the gateway and the processes behind it say to each other, on their unix sockets: JSON.

An error travels as its code and sentence, and is raised again on the other side.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from zerostor.core import errors
from zerostor.core.errors import BackendError, BadRequest, ZerostorError
from zerostor.core.limits import KIB
from zerostor.core.msgpack import UNDECODABLE

BODY_MAX = 64 * KIB
"""Bytes of a request; the longest public key has 12 KiB."""
_T = TypeVar("_T", bound=msgspec.Struct)


def decode(kind: type[_T], body: bytes) -> _T:
    """A request. Raises BadRequest; what was sent is not repeated, it may be a private key."""
    if len(body) > BODY_MAX:
        raise BadRequest(f"a request has at most {BODY_MAX} bytes")
    try:
        return msgspec.json.decode(body, type=kind)
    except UNDECODABLE as error:
        fields = ", ".join(kind.__struct_fields__)
        raise BadRequest(f"the body is not what is expected here: {error}; it may have {fields}"
                         ) from None


def refusal(error: ZerostorError) -> dict[str, str]:
    """An error as it travels."""
    return {"code": error.code, "detail": str(error)}


def raised(answer: object) -> ZerostorError:
    """The error that `refusal` wrote; BackendError for what nobody knows."""
    fields = answer if isinstance(answer, dict) else {}
    kind = _kinds(ZerostorError).get(str(fields.get("code")), BackendError)
    return kind(str(fields.get("detail") or "the process failed on this; see its log"))


def _kinds(base: type[ZerostorError]) -> dict[str, type[ZerostorError]]:
    found: dict[str, type[ZerostorError]] = {}
    for kind in base.__subclasses__():
        if kind.__module__ == errors.__name__:
            # Of two with one code the branch counts, which comes last.
            found |= _kinds(kind) | {kind.code: kind}
    return found
