"""`zerostor keeper`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.commands.options import read_settings, settings_options

if TYPE_CHECKING:
    from workers.keeper import Task
    from zerostor.config import Config
    from zerostor.wiring import Parts

KEPT_BYTES = 8 * 1024 * 1024
"""Freed memory that is kept: it waits most of the time."""


@click.command("keeper", short_help="Run the keeper, which repairs what is stored (`up` does).")
@settings_options
def command(folder: Path | None, file: Path | None) -> None:
    """Run the process that looks after what is stored, in the foreground, logging to stderr.

    It looks for shards that are missing or damaged and makes them again, and moves shards between
    stores. Of several keepers, on any hosts, one works and the others wait to take its place.

    \b
    Example:
      zerostor keeper --data /srv/zerostor
    """
    config = read_settings(folder, file)
    from gateway.commands.folder import make_folders
    from gateway.commands.process import run_process, step_back

    make_folders(config.paths)
    step_back()
    run_process(keep(config), KEPT_BYTES)


async def keep(config: Config) -> None:
    """Keep until cancelled."""
    from gateway.commands.process import unique_name
    from workers.keeper import Keeper
    from zerostor import wiring

    name = unique_name("keeper")
    async with wiring.build(config, name) as parts:
        await Keeper(name, parts.queue, parts.board, parts.roles, parts.clock,
                     tasks_of(name, config, parts)).run()


def tasks_of(name: str, config: Config, parts: Parts) -> list[Task]:
    """What the keeper `name` does, the most important first."""
    from workers.keeper import Task
    from zerostor.engine import reclaim
    from zerostor.engine.grace import Grace
    from zerostor.engine.moves import Moves
    from zerostor.engine.repairing import Repairing
    from zerostor.engine.store_events import StoreEvents

    parts.repairer.bandwidth.rate = config.keeper.repair_rate
    repairing = Repairing(parts.repairer, parts.stores, parts.leading, parts.board, parts.events,
                          parts.clock, config.keeper.repairs)
    grid = reclaim.Grid(parts.leading, parts.stores, parts.reader, parts.writer, parts.policies)
    removal = reclaim.Reclaim(grid, parts.board, parts.events, parts.clock, parts.random_bytes,
                              config.keeper.removal_grace)
    told = StoreEvents(parts.events)
    grace = Grace(parts.stores, parts.clock, config.keeper.grace, told.lost)
    # Processes look at the roll every two seconds, and hosts hear of each other every ten.
    moves = Moves(parts.stores, parts.leading, parts.policies, parts.roll, parts.board, parts.clock,
                  settle=30.0 if config.cluster.secret else 6.0, rate=config.keeper.move_rate,
                  emptied=told.emptied)
    return [Task("grace", grace.run), Task("repair", repairing.run), Task("moves", moves.run),
            Task(reclaim.NAME, removal.run), _scrub(config, parts),
            *event_tasks(name, config, parts)]


def _scrub(config: Config, parts: Parts) -> Task:
    from functools import partial

    from workers.keeper import Task
    from zerostor.core.scrub import NAME
    from zerostor.engine.containers import IndexCopies
    from zerostor.engine.orphans import Orphans, foreign_log
    from zerostor.engine.scrub import Scrub
    from zerostor.engine.scrub_pace import Pace
    from zerostor.index_file import IndexFile
    from zerostor.scrub_book import SqliteScrubBook

    pace = Pace(parts.board, parts.queue, parts.clock, config.keeper.scrub_rate)
    copies = IndexCopies(parts.stores, IndexFile(config.paths.containers))
    orphans = Orphans(parts.leading, parts.roles, parts.stores, parts.events, parts.clock,
                      partial(foreign_log, parts.log, copies),
                      remove=config.keeper.orphans == "remove")
    scrub = Scrub(parts.leading, parts.roles, parts.stores, parts.checker, parts.board,
                  parts.events, partial(SqliteScrubBook, config.paths.scrub_book), pace, orphans,
                  parts.clock, config.keeper.scrub)
    return Task(NAME, scrub.run, scrub.hear)


def event_tasks(name: str, config: Config, parts: Parts) -> list[Task]:
    """What it tells of, and whom."""
    from workers.keeper import Task
    from zerostor.engine.event_watch import EventWatch

    watch = EventWatch(name, 1, parts.events, parts.stores, parts.roles, parts.clock, config.events)
    tasks = [Task("events", watch.run, everywhere=True)]
    if config.cluster.secret:
        import socket

        from zerostor.engine.event_relaying import EventRelaying
        from zerostor.queue.redis_relay import RedisRelay

        relaying = EventRelaying(socket.gethostname(), parts.events, RedisRelay(config.redis_login),
                                 parts.clock)
        tasks.append(Task("relay", relaying.run, everywhere=True))
    if config.events.webhook:
        # What speaks HTTP costs memory, and most keepers do not.
        from workers.webhook import Webhooks

        hooks = Webhooks(parts.events, parts.board, parts.clock, config.events)
        tasks.append(Task("webhook", hooks.run))
    return tasks
