"""What proxies of tests do with the two directions of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


async def pump_both(*directions: Coroutine[None, None, None]) -> None:
    """Run both until one of them ends; the other is ended then."""
    pumps = [asyncio.ensure_future(direction) for direction in directions]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
