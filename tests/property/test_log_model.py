"""Random changes in both modes: what a model says, however the log is opened again.

The index that was kept while writing, the one read from the log alone, and the one loaded from
index files are equal column by column; and a batch that fails leaves no trace in any of them.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.logs import (
    OPERATIONS,
    SMALL,
    Operation,
    columns,
    contents,
    durable,
    file_size_limit,
    files,
    forget_index_files,
    keys_are_found,
    opened,
    step,
)
from zerostor.core.log_format import Mode

MODES = pytest.mark.parametrize("mode", list(Mode))


async def reopened_alike(folder: Path, mode: Mode, expected: object, values: object) -> None:
    for quick in (True, False):
        if not quick:
            forget_index_files(folder)
        again = opened(folder, SMALL._replace(mode=mode))
        assert columns(again) == expected
        assert contents(again) == values
        keys_are_found(again)
        await again.close()


@MODES
@settings(max_examples=120, deadline=None)
@given(operations=OPERATIONS, pauses=st.sets(st.integers(0, 30)))
def test_an_index_is_the_same_however_it_came_about(
    mode: Mode, operations: list[Operation], pauses: set[int]
) -> None:
    async def run(folder: Path) -> None:
        store = opened(folder, SMALL._replace(mode=mode))
        for turn, operation in enumerate(operations):
            step(store, operation)
            keys_are_found(store)
            if turn in pauses:
                await durable(store)
        before, values = columns(store), contents(store)
        await durable(store)
        assert contents(store) == values
        await store.close()
        await reopened_alike(folder, mode, before, values)

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(run(Path(name)))


@MODES
@settings(max_examples=120, deadline=None)
@given(kept=OPERATIONS, lost=OPERATIONS, more=OPERATIONS,
       limit=st.sampled_from([20, 20, 2000, 15_000, 25_000]))
def test_a_batch_that_fails_leaves_no_trace(
    mode: Mode, kept: list[Operation], lost: list[Operation], more: list[Operation], limit: int
) -> None:
    async def run(folder: Path) -> None:
        store = opened(folder, SMALL._replace(mode=mode))
        for operation in kept:
            step(store, operation)
        await durable(store)
        before, values = columns(store), contents(store)
        log_id, raw = store.log_id, files(folder, store)
        with file_size_limit(limit):
            for operation in lost:
                step(store, operation)
            batch = await durable(store)
        if batch is None or not batch.error:
            assert batch is None or limit > 20
            await store.close()
            return
        assert columns(store) == before
        assert (contents(store), store.log_id, files(folder, store)) == (values, log_id, raw)
        keys_are_found(store)
        for operation in more:
            step(store, operation)
        before, values = columns(store), contents(store)
        await store.close()
        await reopened_alike(folder, mode, before, values)

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(run(Path(name)))
