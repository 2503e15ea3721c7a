"""Events sent to the addresses in the settings: one process of all hosts does, the leading keeper.

In order, each once it was taken (an answer 2xx), again and again until then, and again after a
restart; so an event may come twice, and its `id` and `origin` tell. A POST carries up to PAGE of
them as JSON, {"events": [...]}, as GET /api/events has them. With a secret it carries

    X-Zerostor-Signature: t=SECONDS,v1=HEX

HEX: HMAC-SHA256 by the secret over SECONDS, a ".", and the body.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
from collections.abc import Sequence
from urllib.parse import urlsplit

import aiohttp
import msgspec

from zerostor import __version__
from zerostor.core.errors import BackendError, QueueUnavailable
from zerostor.core.event_settings import EventsSettings
from zerostor.core.events import ENDINGS, Event, Severity, described
from zerostor.core.reminder import Reminder
from zerostor.event_ports import EventBook
from zerostor.keeper_ports import Board
from zerostor.ports import Clock

_log = logging.getLogger(__name__)

PAGE = 50
"""Events of one POST."""
SEND_SECONDS = 15.0
"""For one POST as a whole."""
PAUSE_FIRST, PAUSE_MAX = 1.0, 300.0
"""Until one that failed is tried again; each time twice as long."""
WAIT_SECONDS = 20.0
STALE_MS = 7 * 86_400_000
"""Events that nobody took for so long are not sent any more."""
SKEW_MS = 60_000
"""By which the clocks of two hosts may differ: what is sent twice when another keeper goes on."""
SIGNATURE = "X-Zerostor-Signature"


class Webhooks:
    """All addresses; each goes at its own pace. Run `run` as a task of the keeper that leads."""

    def __init__(self, book: EventBook, board: Board, clock: Clock, settings: EventsSettings
                 ) -> None:
        self._book = book
        self._board = board
        self._clock = clock
        self._settings = settings

    async def run(self) -> None:
        """Send until cancelled."""
        timeout = aiohttp.ClientTimeout(total=SEND_SECONDS)
        # No proxies, no redirects, no cookies: it talks to the addresses in the settings.
        async with aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), timeout=timeout, trust_env=False,
                auto_decompress=False) as session, asyncio.TaskGroup() as group:
            for url in dict.fromkeys(self._settings.webhook):
                feed = _Feed(url, session, self._book, self._board, self._clock, self._settings)
                group.create_task(feed.run())


class _Feed:
    """One address."""

    def __init__(self, url: str, session: aiohttp.ClientSession, book: EventBook, board: Board,
                 clock: Clock, settings: EventsSettings) -> None:
        self._url = url
        self._session = session
        self._book = book
        self._board = board
        self._clock = clock
        self._least = Severity(settings.webhook_severity)
        self._secret = settings.secret.reveal()
        self._mark = f"webhook {hashlib.sha256(url.encode()).hexdigest()[:32]}"
        self._after = -1

    async def run(self) -> None:
        """Send what there is, and what comes."""
        pause, trouble = PAUSE_FIRST, Reminder()
        host = urlsplit(self._url).hostname
        while True:
            try:
                refused = await self._turn()
            except BackendError as error:
                refused = str(error)
            if refused:
                if trouble.due(refused, self._clock.monotonic()):
                    _log.warning("the webhook at %s is not told of events: %s", host, refused)
                await self._clock.sleep(pause)
                pause = min(2 * pause, PAUSE_MAX)
                continue
            pause = PAUSE_FIRST
            if trouble.over():
                _log.info("the webhook at %s takes events again", host)

    async def _turn(self) -> str:
        """Send a page, or wait for one; why it was not taken, empty if it was."""
        if self._after < 0:
            self._after = await self._begin()
        # Asked first: what comes in between is looked at the next time.
        newest = await self._book.newest()
        events = await self._book.since(self._after, PAGE)
        wanted = [event for event in events if self._is_wanted(event)]
        refused = await self._sent(wanted) if wanted else ""
        if refused:
            return refused
        reached = events[-1].id if events else self._after
        if len(events) < PAGE:
            reached = max(reached, newest)
        if reached != self._after:
            self._after = reached
            await self._note(reached)
        elif len(events) < PAGE:
            await self._book.changed(reached, WAIT_SECONDS)
        return ""

    async def _begin(self) -> int:
        """Where we were, or the keeper of another host; of an address that is new nothing of what
        was before is sent.
        """
        here, there = await self._book.mark(self._mark), 0
        with contextlib.suppress(QueueUnavailable, ValueError):
            there = int(await self._board.published(self._mark) or 0) - SKEW_MS
        if max(here, there) <= 0:
            here = await self._book.newest() or 1
            await self._note(here)
        return max(here, there, int(self._clock.now() * 1000) - STALE_MS)

    async def _note(self, reached: int) -> None:
        await self._book.set_mark(self._mark, reached)
        with contextlib.suppress(QueueUnavailable):
            await self._board.publish(self._mark, str(reached).encode(), STALE_MS / 1000)

    def _is_wanted(self, event: Event) -> bool:
        # Who was told that something is wrong is told that it is over.
        return event.severity.rank >= self._least.rank or event.kind in ENDINGS

    async def _sent(self, events: Sequence[Event]) -> str:
        """Why it was not taken, empty if it was."""
        body = msgspec.json.encode({"events": [described(event) for event in events]})
        headers = {"Content-Type": "application/json", "User-Agent": f"zerostor/{__version__}"}
        if self._secret:
            headers[SIGNATURE] = signature(self._secret, int(self._clock.now()), body)
        try:
            async with self._session.post(self._url, data=body, headers=headers,
                                          allow_redirects=False) as answer:
                return "" if 200 <= answer.status < 300 else f"it answered {answer.status}"
        except TimeoutError:
            return f"no answer within {SEND_SECONDS:.0f} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Not in its own words: they may quote the address, which may have a token in it.
            reason = getattr(error, "strerror", None)
            return str(reason or type(error).__name__)


def signature(secret: str, seconds: int, body: bytes) -> str:
    """The header by which a receiver knows who sent this, and when."""
    signed = hmac.new(secret.encode(), b"%d.%b" % (seconds, body), hashlib.sha256)
    return f"t={seconds},v1={signed.hexdigest()}"

