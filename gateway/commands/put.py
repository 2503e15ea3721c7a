"""`zerostor put`."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any

import click

from gateway.commands.options import Seconds, json_option, print_json, server_option
from gateway.commands.progress import Bar, Bars, transfer_bars
from gateway.commands.waiting import FIRST_STEP, follow, link_of
from gateway.http_client import Client, Refused
from zerostor.core.errors import ZerostorError
from zerostor.core.link import extension_of, parse_extension
from zerostor.core.units import size_text

TOO_MANY = 429
TRIES = 6
"""Of an upload, while the gateway says that too many come."""
AGAIN_MAX = 60.0
"""Seconds between two of them at most."""


class Counter:
    """Bytes that went by, passed on to the bar."""

    def __init__(self, bar: Bar) -> None:
        self.count = 0
        self._bar = bar

    def advance(self, count: int) -> None:
        """`count` more bytes."""
        self.count += count
        self._bar.advance(count)

    def begin_again(self) -> None:
        """None of them counted."""
        self._bar.advance(-self.count)
        self.count = 0


@click.command("put", short_help="Store files; prints the permanent link of each.")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, allow_dash=True))
@click.option("--ext", help="Extension of the link.  [default: the file's own]")
@click.option(
    "--private",
    is_flag=True,
    help="A link that nobody can find who knows, or guesses, what is in the file.",
)
@click.option(
    "--wait",
    type=Seconds(),
    default=math.inf,
    help="Wait at most this long, as 5m.  [default: until it is stored]",
)
@click.option("--no-wait", is_flag=True, help="Return once it is accepted; prints the job.")
@click.option(
    "--parallel",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Files that are sent at a time.",
)
@json_option
@server_option
def command(
    files: tuple[str, ...],
    ext: str | None,
    private: bool,
    wait: float,
    no_wait: bool,
    parallel: int,
    as_json: bool,
    client: Client,
) -> None:
    """Store each FILE (- is standard input) and print its permanent link.

    A link is printed once the file is stored: enough shards are on disk that it survives.

    \b
    Examples:
      zerostor put photo.jpg
      zerostor put *.jpg --json | jq -r .url
      tar c docs | zerostor put - --ext tar
      zerostor put film.mkv --no-wait     then: zerostor status JOB --wait 5m
    """
    if no_wait and wait != math.inf:
        raise click.UsageError("--wait and --no-wait exclude each other")
    extension = parse_extension(ext.removeprefix(".")) if ext else None
    uploads = [Upload(file, extension, private=private) for file in files]
    with transfer_bars(quiet=as_json) as bars:

        def one(upload: Upload) -> dict[str, Any]:
            # Here, so that an answer that is none concerns one file only.
            with client.understanding():
                return _put(client, upload, 0.0 if no_wait else wait, bars)

        def tell(upload: Upload) -> bool:
            answer = _answer(upload)
            if as_json:
                print_json(answer)
            else:
                _report(answer, bars, no_wait=no_wait)
            return answer["state"] == "DONE" or (no_wait and answer["state"] != "ERROR")

        _start(one, uploads, parallel)
        good = _tell_all(uploads, tell, lambda upload: _leave(upload, bars))
    if not good:
        raise click.exceptions.Exit(1)


class Upload:
    """One file on its way. job: known once the gateway has accepted it, else empty."""

    def __init__(self, file: str, extension: str | None, *, private: bool) -> None:
        self.file = file
        self.private = private
        self.extension = extension_of(file) if extension is None else extension
        self.job = ""
        self.answer: Future[dict[str, Any]] = Future()


def _start(
    work: Callable[[Upload], dict[str, Any]], uploads: list[Upload], parallel: int
) -> None:
    """Begin `work` on all, `parallel` at a time.

    Daemon threads, as those of a ThreadPoolExecutor would be waited for at exit: Ctrl-C would have
    to wait for a read of the terminal, or for a job that takes days.
    """
    left: queue.SimpleQueue[Upload] = queue.SimpleQueue()
    for upload in uploads:
        left.put(upload)

    def run() -> None:
        while True:
            try:
                upload = left.get_nowait()
            except queue.Empty:
                return
            try:
                upload.answer.set_result(work(upload))
            except BaseException as error:  # noqa: BLE001
                upload.answer.set_exception(error)

    for _ in range(min(parallel, len(uploads))):
        threading.Thread(target=run, daemon=True).start()


def _tell_all(
    uploads: list[Upload], tell: Callable[[Upload], bool], leave: Callable[[Upload], None]
) -> bool:
    """`tell` of each in turn, once it has ended; on Ctrl-C of what is known.

    leave: told of what is accepted and goes on. True if all were told to be good.
    """
    untold, good = list(uploads), True
    try:
        while untold:
            untold[0].answer.exception()
            good &= tell(untold.pop(0))
    except KeyboardInterrupt:
        for upload in untold:
            if upload.answer.done():
                tell(upload)
            elif upload.job:
                leave(upload)
        raise
    return good


def _answer(upload: Upload) -> dict[str, Any]:
    try:
        answer = upload.answer.result()
    except OSError as error:
        answer = {"state": "ERROR", "detail": error.strerror or str(error)}
    except ZerostorError as error:
        answer = {"state": "ERROR", "detail": str(error)}
    return {"file": upload.file, **answer}


def _put(client: Client, upload: Upload, wait: float, bars: Bars) -> dict[str, Any]:
    start = time.monotonic()
    with click.open_file(upload.file, "rb") as body:
        size = None if upload.file == "-" else Path(upload.file).stat().st_size
        bar = bars.bar(Path(upload.file).name, size)
        counter = Counter(bar)
        bar.stage("sending")
        # A short wait: most are stored by then, and of the others we soon know the job.
        answer = _sent(upload, bars, body, counter, lambda: client.upload(
            body, ext=upload.extension, wait=min(wait, FIRST_STEP), advance=counter.advance,
            private=upload.private,
        ))
    private = {"private": True} if answer.get("private") else {}
    if "hash" in answer:
        answer |= {"state": "DONE"}
    elif wait <= 0:
        answer = {"job": answer.get("job"), "state": "ACTIVE"}
    else:
        upload.job = str(answer.get("job"))
        _show(bar, answer)
        left = wait - (time.monotonic() - start)
        answer = follow(client, upload.job, max(0.0, left), lambda status: _show(bar, status))
    bar.stage("stored" if answer.get("state") == "DONE" else str(answer.get("state", "")).lower())
    if answer.get("state") == "DONE":
        answer["url"] = link_of(client, answer)
    seconds = round(time.monotonic() - start, 3)
    known = {"state": "ACTIVE"} | answer | private
    return {**known, "size": counter.count, "seconds": seconds}


def _sent(
    upload: Upload, bars: Bars, body: IO[bytes], counter: Counter,
    send: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """What `send` answers, once the gateway takes more: a pipe can be read only once."""
    start, left = (body.tell(), TRIES) if body.seekable() else (0, 1)
    while True:
        try:
            return send()
        except Refused as error:
            left -= 1
            if error.status != TOO_MANY or error.again is None or not left:
                raise
            pause = min(error.again, AGAIN_MAX)
            bars.say(f"zerostor: {upload.file}: {error}; trying again in {pause:g} s", err=True)
        time.sleep(pause)
        body.seek(start)
        counter.begin_again()


def _show(bar: Bar, status: dict[str, Any]) -> None:
    if status.get("state") == "WAITING":
        bar.waits(str(status.get("detail")))
    else:
        bar.stage("storing")


def _leave(upload: Upload, bars: Bars) -> None:
    again = f"`zerostor status {upload.job} --wait 5m`"
    bars.say(f"zerostor: {upload.file}: accepted, and it goes on: {again}", err=True)


def _report(answer: dict[str, Any], bars: Bars, *, no_wait: bool) -> None:
    state, name = answer["state"], answer["file"]
    if state == "ERROR":
        bars.say(f"zerostor: {name}: {answer.get('detail')}", err=True)
    elif state == "DONE":
        speed = size_text(answer["size"] / max(answer["seconds"], 0.001))
        told = f"{size_text(answer['size'])} in {answer['seconds']:.2f} s, {speed}/s"
        bars.say(f"{name}: {told}", err=True)
        bars.say(answer["url"], err=False)
    elif no_wait:
        bars.say(answer["job"], err=False)
    else:
        reason = answer.get("detail") or "it goes on"
        bars.say(
            f"zerostor: {name}: not stored yet: {reason}; ask again with"
            f" `zerostor status {answer.get('job')} --wait 5m`",
            err=True,
        )
