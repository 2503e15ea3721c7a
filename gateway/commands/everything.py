"""Going through everything that is stored, a portion at a time, with progress on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click

from gateway.http_client import Client

PORTION = 500
PORTION_WAIT = 3600.0
"""Seconds that one portion may take: a hard one reads hundreds of megabytes."""


class Portions:
    """The answers to `path`, from the first metadata id to the last."""

    def __init__(self, client: Client, path: str, *, changing: bool = False) -> None:
        self._client = client
        self._path = path
        self._method = "POST" if changing else "GET"

    def __iter__(self) -> Iterator[dict[str, Any]]:
        following: int | None = 0
        objects = bad = 0
        while following is not None:
            path = f"{self._path}&limit={PORTION}&from={following}"
            answer = self._client.ask(path, wait=PORTION_WAIT, method=self._method,
                                      body={} if self._method == "POST" else None)
            objects += int(answer.get("objects") or 0)
            bad += len(answer.get("bad") or [])
            yield answer
            before, following = following, answer.get("next")
            if following is not None and int(following) <= before:
                raise click.ClickException("the gateway does not get on with its records")
            self._show(following, answer.get("of"), objects, bad)

    def _show(self, at: int | None, end: int | None, objects: int, bad: int) -> None:
        if not sys.stderr.isatty():
            return
        if at is None:
            click.echo("\r\x1b[K", nl=False, err=True)
            return
        share = f"{100 * at // end} %, " if end else ""
        click.echo(f"\r\x1b[K{share}{objects} objects, {bad} not healthy", nl=False, err=True)
