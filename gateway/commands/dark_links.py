"""What `rm`, `restore` and `quarantine` share: one request for each link."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from gateway.commands.links import read_link
from gateway.commands.options import print_json
from gateway.commands.tables import moment, print_line
from gateway.http_client import Client, Refused
from gateway.plain_text import plain
from zerostor.core.link import Hash


def act_on(client: Client, links: Sequence[str], ask: Callable[[Client, Hash], dict[str, Any]],
           *, as_json: bool) -> None:
    """Do it to each link, and go on behind one that is refused; exit code 1 if any was.

    Raises BadLink, BadExtension before any is touched.
    """
    read = [read_link(link, client) for link in links]
    answers: list[dict[str, Any]] = []
    refused = 0
    for there, wanted, link in read:
        try:
            answers.append(ask(there, wanted))
        except Refused as error:
            refused += 1
            answers.append({"hash": str(wanted), "error": str(error)})
            click.echo(f"zerostor: {link}: {plain(str(error))}", err=True)
            continue
        if not as_json:
            print_line(f"{link}: {_told(answers[-1])}")
    if as_json:
        print_json(answers)
    if refused:
        raise click.exceptions.Exit(1)


def _told(answer: dict[str, Any]) -> str:
    state, until = str(answer.get("state")), answer.get("until")
    return f"{state}, can be restored until {moment(until)}" if until else state
