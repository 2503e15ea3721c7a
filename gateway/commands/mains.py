"""The main coroutines of the processes: settings to adapters to a running process."""

from __future__ import annotations

import os
import secrets
import socket

from gateway import app
from gateway.services import Services
from gateway.waiters import Waiters
from workers.runner import Runner
from zerostor import wiring
from zerostor.config import Config


async def run_gateway(config: Config) -> None:
    """Serve HTTP until cancelled."""
    async with wiring.build(config, _unique("gateway")) as parts:
        services = Services(
            stores=parts.stores, store_settings=config.store, policies=parts.policies,
            metadata=parts.metadata, queue=parts.queue, spool=parts.spool, catalog=parts.catalog,
            reader=parts.reader, checker=parts.checker,
            waiters=Waiters(parts.queue, parts.spool), clock=parts.clock,
            random_bytes=parts.random_bytes, max_upload=config.gateway.max_upload,
            public_url=config.gateway.public_url)
        await app.run(services, config.gateway.listen)


async def run_worker(config: Config) -> None:
    """Work on jobs until cancelled."""
    name = _unique("worker")
    async with wiring.build(config, name) as parts:
        await Runner(name, parts.queue, parts.spool, parts.ingest, parts.clock,
                     config.worker.concurrency).run()


def _unique(kind: str) -> str:
    return f"{kind}-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
