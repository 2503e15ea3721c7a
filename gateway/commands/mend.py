"""`zerostor mend`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.commands.asked import asked
from gateway.commands.options import json_option, print_json, read_settings, settings_options
from zerostor.core.errors import SetupError

if TYPE_CHECKING:
    from zerostor.config import Config
    from zerostor.zdb.mending import Mending


@click.command("mend", short_help="Mend damaged metadata from its copies.")
@settings_options
@click.option("--from", "places", multiple=True, metavar="URL",
              help="A slave to ask, beside those that follow now and the stores.")
@click.option("--dry-run", is_flag=True, help="Only look: change nothing.")
@json_option
def command(folder: Path | None, file: Path | None, places: tuple[str, ...], dry_run: bool,
            as_json: bool) -> None:
    """Mend the metadata log of the master with this DATA, while it runs.

    Reads the whole log. What is damaged or missing in it comes from a slave, or from the copy that
    the stores have, and is kept only if the log's own checksums hold over it. Good bytes are never
    touched, and nothing has to be stopped. Exit code 0: nothing is damaged any more; 1: something
    is, and is named by its id.

    \b
    Examples:
      zerostor mend --data /srv/zerostor --dry-run     see what is damaged, and what can be mended
      zerostor mend --data /srv/zerostor
      zerostor mend --data /srv/zerostor --from zdb://10.0.0.6:9900
    """
    config = read_settings(folder, file)
    import asyncio

    mending = asyncio.run(_mend(config, places, dry_run))
    if as_json:
        print_json(_as_dict(mending))
    else:
        _print(mending, dry_run)
    if not mending.complete:
        raise click.exceptions.Exit(1)


async def _mend(config: Config, places: tuple[str, ...], dry_run: bool) -> Mending:
    from gateway.commands.log_copies import log_copies
    from zerostor.metadata_wiring import log_at
    from zerostor.zdb.mending import mend
    from zerostor.zdb.restored_log import NAMESPACE

    if not config.metadata.embedded:
        raise SetupError(f"the metadata server is {' or '.join(config.metadata.url)}: run this on"
                         " its host, with the DATA of that one")
    async with contextlib.AsyncExitStack() as stack:
        server, = await stack.enter_async_context(asked(config))
        log, state = log_at(config, server.url), server.state
        stack.push_async_callback(log.close)
        here = await log.state()
        if state is None or not here.leads:
            raise SetupError("this is a slave, or takes no writes: a slave fetches what is damaged"
                             " from its master when it starts; mend the master")
        urls = dict.fromkeys([*places, *(slave.address for slave in state.slaves)])
        target = config.paths.metadata / NAMESPACE
        copies = await stack.enter_async_context(
            log_copies(config, [url for url in urls if url]))
        mending = await mend(target, here, copies, dry_run=dry_run)
        last = here.files[-1].file if here.files else -1
        if not dry_run and any(file.number == last for file in mending.damaged):
            # A file that is written to is not replaced.
            await server.replication.end_file()
            mending = mending.then(await mend(target, await log.state(), copies, dry_run=False))
        if not dry_run and any(file.mended for file in mending.damaged):
            await server.replication.reload()
        return mending


def _as_dict(mending: Mending) -> dict[str, Any]:
    return {
        "complete": mending.complete, "files": mending.files, "notes": mending.notes,
        "damaged": [{
            "file": file.number,
            "mended": [{**span._asdict(), "from": name} for span, name in file.mended],
            "left": [span._asdict() for span in file.left],
        } for file in mending.damaged],
    }


def _print(mending: Mending, dry_run: bool) -> None:
    for note in mending.notes:
        click.echo(f"of no use: {note}", err=True)
    verb = "can be had" if dry_run else "are back"
    for file in mending.damaged:
        for span, name in file.mended:
            click.echo(f"log file {file.number}: bytes {span.start} to {span.end} {verb} from"
                       f" {name}{f' ({span.what})' if span.what else ''}")
        for span in file.left:
            where = f"bytes {span.start} to {span.end} are damaged" if span.end else "it is missing"
            click.echo(f"log file {file.number}: {where}, and nobody has that:"
                       f" {span.what or 'it is not known what was there'}")
    if not mending.damaged:
        click.echo(f"nothing is damaged; {mending.files} log files were read")
    elif dry_run:
        click.echo("nothing was changed")
