"""SFTP on one channel: bytes to requests on a thread, in their order, and answers back.

A thread works only while there are requests, and takes all that wait in one go, so that the event
loop does not wait for a slow disk. While a home answers at once the loop makes short requests by
itself: two switches between threads take longer than the request, and the client waits.
"""

from __future__ import annotations

import asyncio
import collections
import logging

from sshgw import pieces
from sshgw.pace import Calls, Pace
from sshgw.program import STDERR, Channel
from sshgw.sftp import SftpRequests, is_short
from sshgw.sftp_wire import Splitter
from sshgw.threads import Threads
from sshgw.visit import Visit
from zerostor.core.errors import BadRequest

_log = logging.getLogger(__name__)

INBOX_MAX = 1024 * 1024
"""Bytes of requests that may wait; beyond it the window of the channel is let run out."""
PIECES_MAX = 1024
"""In so many pieces: while a thread takes them they are not joined, and one of few bytes takes 50
times as much."""
ANSWERS_MAX = 512 * 1024
"""Bytes of answers after which they are sent before the next request is worked on."""
SHORT_MAX = 16 * 1024
"""Bytes of requests up to which the event loop takes them by itself."""
SHORT_AT_ONCE = 4
"""Requests that it then makes in one go."""
COMPLAINTS_MAX = 4
"""Sentences on stderr in one session."""


class SftpChannel:
    """A program: see `Program`."""

    def __init__(self, channel: Channel, visit: Visit, threads: Threads,
                 calls: Calls) -> None:
        self._channel = channel
        self._threads = threads
        self._pace = Pace(calls)
        self._loop = asyncio.get_running_loop()
        self._visit = visit
        self._requests = SftpRequests(visit, self._complain)
        self._splitter = Splitter()
        self._inbox: collections.deque[bytes] = collections.deque()
        self._waiting = 0
        self._working = self._paused = self._unread = self._ending = self._gone = False
        self._more = self._on_loop = False
        self._next: memoryview | None = None
        self._complaints = 0
        channel.set_write_buffer_limits(ANSWERS_MAX)

    def received(self, chunk: bytes) -> None:
        """Bytes from the client."""
        if self._working:  # the thread takes from it
            self._inbox.append(chunk)
        else:
            pieces.add(self._inbox, chunk)
        self._waiting += len(chunk)
        if not self._unread and (
                self._waiting > INBOX_MAX or len(self._inbox) > PIECES_MAX):
            self._unread = True
            self._channel.pause_reading()
        self._go_on(at_once=self._waiting <= SHORT_MAX)

    def ended(self) -> None:
        """What was asked is still answered; then the session ends well."""
        self._ending = True
        self._go_on()

    def pause(self) -> None:
        """Stop after the request that is worked on."""
        self._paused = True

    def resume(self) -> None:
        """Go on with what waits."""
        self._paused = False
        self._go_on()

    def closed(self) -> None:
        """Close the files, once no request is worked on."""
        self._gone = self._requests.ended = True
        self._inbox.clear()
        if not self._working:
            self._threads.submit(self._close)

    def _go_on(self, *, at_once: bool = False) -> None:
        if self._working or self._paused or self._gone:
            return
        if self._inbox or self._more:
            self._working = True
            if at_once and self._visit.at_hand and self._pace.quick():
                self._on_loop = True
                answered = self._answers(SHORT_AT_ONCE)
                self._on_loop = False
                self._worked(*answered)
            else:
                self._threads.submit(self._work)
        elif self._ending:
            self._working = True
            self._threads.submit(self._finish)

    def _work(self) -> None:
        """On a thread."""
        self._loop.call_soon_threadsafe(self._worked, *self._answers())

    def _answers(self, short: int | None = None) -> tuple[bytes, int, Exception | None]:
        """Answer what is there, up to ANSWERS_MAX bytes, or up to `short` short requests.

        The answers, the bytes that were taken from the inbox, and on what it broke off.
        """
        answers: list[bytes] = []
        size = taken = 0
        failure: Exception | None = None
        self._more = True
        try:
            self._visit.folder.count()
            while size < ANSWERS_MAX and not self._requests.ended:
                body, self._next = self._next or self._splitter.next(), None
                if body is not None:
                    if short is not None and (len(answers) == short or not is_short(body)):
                        self._next = body
                        break
                    answers.append(self._answer(body))
                    size += len(answers[-1])
                elif self._inbox:
                    chunk = self._inbox.popleft()
                    taken += len(chunk)
                    self._splitter.feed(chunk)
                else:
                    self._more = False
                    break
        except Exception as error:  # noqa: BLE001 - `_fail` logs it
            failure = error
        return b"".join(answers), taken, failure

    def _answer(self, body: memoryview) -> bytes:
        if not is_short(body):
            return self._requests.answer(body)
        return self._pace.timed(lambda: self._requests.answer(body))

    def _worked(self, answers: bytes, taken: int, failure: Exception | None) -> None:
        self._working = False
        self._waiting -= taken
        if self._gone:
            self._threads.submit(self._close)
            return
        if answers and not self._channel.is_closing():
            self._channel.write(answers)
        if failure is not None:
            self._fail(failure)
            return
        if self._unread and self._waiting <= INBOX_MAX // 2:
            self._unread = False
            self._channel.resume_reading()
        self._go_on()

    def _fail(self, failure: Exception) -> None:
        reason = str(failure)
        if isinstance(failure, OSError):
            _log.error("a home cannot be used: %s", failure)
            reason = self._visit.explain(failure)
        elif not isinstance(failure, BadRequest):
            _log.error("an SFTP session ended on an error of ours", exc_info=failure)
            reason = "an error of the server; its log has more"
        self._print(f"the session ends: {reason}")
        self._channel.exit(1)

    def _finish(self) -> None:
        self._close()
        self._loop.call_soon_threadsafe(self._finished)

    def _finished(self) -> None:
        # Without a status scp and restic take a session that went well for one that broke.
        if not self._gone:
            self._channel.exit(0)

    def _close(self) -> None:
        try:
            self._requests.close()
        except OSError as error:
            _log.warning("a file could not be closed: %s", error)

    def _complain(self, sentence: str) -> None:
        """On any thread: a line that the client's ssh prints, where the protocol has only codes."""
        if self._on_loop:
            self._print(sentence)
        else:
            self._loop.call_soon_threadsafe(self._print, sentence)

    def _print(self, sentence: str) -> None:
        self._complaints += 1
        if self._complaints <= COMPLAINTS_MAX and not self._channel.is_closing():
            self._channel.write(f"zerostor: {sentence}\r\n".encode(), STDERR)
