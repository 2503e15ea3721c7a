"""RESP2 as 0-db speaks it: requests are arrays of bulk strings. Bytes in, values out, cut anywhere.

Error texts and limits are those of 0-db, observed on its wire. What leaves a 0-db connection
poisoned (the same error for every later request) closes it here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from zerostor.core.limits import KIB, RECORD_MAX

ARGUMENTS_MAX = 1024
BULK_MAX = RECORD_MAX
REQUEST_MAX = BULK_MAX + 512 * KIB
"""Bytes of one request: the largest value with its key, or 1024 keys of 255 bytes."""
REPLY_MAX = 4 * BULK_MAX
"""Bytes of one reply that a client takes, ITEM_COST for each item included."""
ITEM_COST = 64
"""Bytes that each item of a reply counts for besides its own: what an empty one takes in memory."""
DEPTH_MAX = 4
"""Arrays within arrays in a reply; SCAN has three."""
LINE_MAX = 32
"""Bytes of a length line; 19 digits are the most that make sense."""
SIMPLE_MAX = 1024
"""Bytes of a simple string or an error."""

NIL = b"$-1\r\n"
OK = b"+OK\r\n"


class ReplyError(Exception):
    """An error reply, as a value: str() is its text. Never raised by this module."""


class RespError(Exception):
    """The peer does not speak the protocol; the connection is of no more use."""


Reply: TypeAlias = "bytes | int | str | ReplyError | list[Reply] | None"
"""bulk -> bytes, integer -> int, simple string -> str, nil -> None, error -> ReplyError."""


def bulk(value: bytes) -> bytes:
    """`$n` and the value."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def integer(number: int) -> bytes:
    """`:n`."""
    return b":%d\r\n" % number


def error(text: str) -> bytes:
    """`-text`; line breaks in the text become spaces."""
    return b"-%b\r\n" % " ".join(text.split()).encode()


def array(items: Sequence[bytes]) -> bytes:
    """`*n` and the items, which are encoded already."""
    return b"*%d\r\n%b" % (len(items), b"".join(items))


def request(arguments: Iterable[bytes | memoryview]) -> bytes:
    """An array of bulk strings."""
    # Joined at once: each item is copied one time, be it a cell of a megabyte.
    parts: list[bytes | memoryview] = [b""]
    for item in arguments:
        parts += (b"$%d\r\n" % len(item), item, b"\r\n")
    parts[0] = b"*%d\r\n" % (len(parts) // 3)
    return b"".join(parts)


class RequestParser:
    """Requests out of bytes. After `error` is set no more come: answer it and close.

    Holds at most one unfinished request, REQUEST_MAX bytes.
    """

    def __init__(self) -> None:
        self.error: str | None = None
        # One buffer, not a list of what came: chunks of a byte each would weigh forty times that.
        self._rest = bytearray()
        self._need = 0
        self._arguments: list[bytes] = []
        self._missing = 0
        self._taken = 0

    def feed(self, chunk: bytes) -> list[list[bytes]]:
        """The requests that `chunk` completes, each a list of 1 to 1024 arguments."""
        if self.error is not None:
            return []
        if self._rest:
            self._rest += chunk
            if len(self._rest) < self._need:
                return []
            chunk = bytes(self._rest)
        requests: list[list[bytes]] = []
        position = self._parse(chunk, requests)
        self._rest = bytearray(memoryview(chunk)[position:])
        self._need -= position
        return requests

    @property
    def unfinished(self) -> int:
        """Bytes held of a request that has not arrived whole."""
        return len(self._rest) + (self._taken if self._missing else 0)

    def _parse(self, buffer: bytes, requests: list[list[bytes]]) -> int:
        """Consume whole items; return where that ended. `_need`: bytes the next one takes."""
        find, size = buffer.find, len(buffer)
        arguments, missing, taken = self._arguments, self._missing, self._taken
        position = self._need = 0
        while position < size:
            eol = find(b"\n", position, position + LINE_MAX)
            if eol < 0:
                if size - position >= LINE_MAX or buffer[position] != (36 if missing else 42):
                    self._refuse(buffer, position, missing)
                break
            try:
                number = int(buffer[position + 1 : eol])
            except ValueError:
                number = 0
            kind = buffer[position]
            if not missing:
                if kind != 42 or not 0 < number <= ARGUMENTS_MAX:
                    self._refuse_array(kind, number)
                    break
                missing, arguments, taken = number, [], 0
                position = eol + 1
                continue
            end = eol + 1 + number
            if kind != 36 or number < 0 or taken + number > REQUEST_MAX or number > BULK_MAX:
                self._refuse_bulk(kind, number)
                break
            if end + 2 > size:
                self._need = end + 2
                break
            arguments.append(buffer[eol + 1 : end])
            position = end + 2
            missing -= 1
            taken += number
            if not missing:
                requests.append(arguments)
        # A connection that is idle keeps nothing of its last request.
        self._arguments, self._missing = arguments if missing else [], missing
        self._taken = taken
        return position

    def _refuse(self, buffer: bytes, position: int, missing: int) -> None:
        if missing:
            self.error = "Malformed query string"
        elif buffer[position] != 42:
            self.error = "Malformed request, array expected"
        else:
            self.error = "Too many arguments"

    def _refuse_array(self, kind: int, number: int) -> None:
        if kind != 42:
            self.error = "Malformed request, array expected"
        elif number < 0:
            self.error = "Internal memory error"
        else:
            self.error = "Too many arguments" if number else "Missing arguments"

    def _refuse_bulk(self, kind: int, number: int) -> None:
        too_big = kind == 36 and number > 0
        self.error = "Payload too big" if too_big else "Malformed query string"


class ReplyParser:
    """Replies out of bytes. Raises RespError, after which it is of no more use."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._held = 0
        self._need = 0
        self._open: list[tuple[list[Reply], int]] = []
        self._taken = 0

    def feed(self, chunk: bytes) -> list[Reply]:
        """The replies that `chunk` completes."""
        self._chunks.append(chunk)
        self._held += len(chunk)
        if self._held < self._need:
            return []
        buffer = chunk if len(self._chunks) == 1 else b"".join(self._chunks)
        replies: list[Reply] = []
        position = self._parse(buffer, replies)
        self._chunks = [buffer[position:]] if position < len(buffer) else []
        self._held = len(buffer) - position
        self._need -= position
        return replies

    def _parse(self, buffer: bytes, replies: list[Reply]) -> int:
        position, size = 0, len(buffer)
        self._need = 0
        while position < size:
            eol = buffer.find(b"\r\n", position)
            if (size - 1 if eol < 0 else eol) - position > SIMPLE_MAX:
                raise RespError("a reply line that does not end")
            if eol < 0:
                break
            kind = buffer[position]
            value: Reply
            if kind == 36:  # $
                length = _number(buffer[position + 1 : eol])
                end = eol + 2 + length
                if not -1 <= length <= REPLY_MAX:
                    raise RespError(f"a reply of {length} bytes")
                if length < 0:
                    end, value = eol, None
                elif end + 2 > size:
                    self._need = end + 2
                    break
                else:
                    value = buffer[eol + 2 : end]
                position, self._taken = end + 2, self._taken + end - position
            else:
                line = buffer[position + 1 : eol]
                position, self._taken = eol + 2, self._taken + len(line)
                if kind == 42 and self._begin_array(line):  # *
                    continue
                value = [] if kind == 42 else _line_value(kind, line)
            self._close(value, replies)
        return position

    def _begin_array(self, line: bytes) -> bool:
        """Open an array of at least one item."""
        count = _number(line)
        if not 0 <= count <= REPLY_MAX or len(self._open) >= DEPTH_MAX:
            raise RespError(f"an array of {count} items")
        if count:
            self._open.append(([], count))
        return count > 0

    def _close(self, value: Reply, replies: list[Reply]) -> None:
        """Put a finished value where it belongs; arrays that are full now are values as well."""
        self._taken += ITEM_COST
        if self._taken > REPLY_MAX:
            raise RespError("a reply that is too large")
        while self._open:
            items, count = self._open[-1]
            items.append(value)
            if len(items) < count:
                return
            self._open.pop()
            value = items
        self._taken = 0
        replies.append(value)


def _number(line: bytes) -> int:
    try:
        return int(line)
    except ValueError:
        raise RespError("a length that is not a number") from None


def _line_value(kind: int, line: bytes) -> Reply:
    if kind == 58:  # :
        return _number(line)
    text = line.decode("utf-8", "replace")
    if kind == 43:  # +
        return text
    if kind == 45:  # -
        return ReplyError(text)
    raise RespError(f"a reply that starts with byte {kind}")
