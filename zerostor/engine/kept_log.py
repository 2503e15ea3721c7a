"""The metadata log as the pool has it: the parts that the container index lists."""

from __future__ import annotations

from zerostor.core.container_index import ContainerIndex
from zerostor.engine.read import Reader
from zerostor.log_ports import LogPart, LogState


class KeptLog:
    """Adapter of log_ports.MetadataLog; what it reads was checked, cell by cell."""

    def __init__(self, index: ContainerIndex, reader: Reader) -> None:
        self._index = index
        self._reader = reader

    async def state(self) -> LogState:
        """Up to where the pool has the log."""
        index = self._index
        parts = [LogPart(row.file, row.end, row.closed) for row in index.rows
                 if row.end == index.covered(row.file)]
        return LogState(index.log_id, index.epoch, False, tuple(parts))

    async def read(self, file: int, offset: int, size: int) -> bytes:
        """As the port says, up to the end of a part. Raises DataError, BackendError too."""
        for row in self._index.rows:
            if row.file == file and row.start <= offset < row.end:
                stripes = row.object_record.stripes
                assert stripes is not None
                end = min(offset + size, row.end) - row.start
                stream = self._reader.encoded(stripes, offset - row.start, end)
                return b"".join([bytes(view) async for view in stream])
        return b""

    async def close(self) -> None:
        """Stores are closed by whoever opened them."""
