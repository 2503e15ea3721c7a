"""Records in a dict, for tests and trials: ids and errors of the real one, nothing kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence

from zerostor.core.errors import LogCorrupt


class MemoryMetadata:
    """Adapter of ports.MetadataStore. Like 0-db, a commit that changes a record uses up an id."""

    def __init__(self) -> None:
        self._values: dict[int, bytes] = {}
        self._next = 0

    async def reserve(self, notes: Sequence[bytes]) -> list[int]:
        """As the port says."""
        ids = list(range(self._next, self._next + len(notes)))
        self._values.update(zip(ids, (bytes(note) for note in notes), strict=True))
        self._next += len(notes)
        return ids

    async def term(self) -> str:
        """Always the same."""
        return ""

    async def commit(
        self, records: Sequence[tuple[int, bytes]], term: str | None = None
    ) -> None:
        """As the port says. Raises LogCorrupt for an id that was never reserved."""
        assert not term
        for metadata_id, record in records:
            known = self._values.get(metadata_id)
            if known is None:
                raise LogCorrupt(f"the metadata store does not know id {metadata_id}")
            if known != record:
                self._values[metadata_id] = bytes(record)
                self._next += 1

    async def replace(self, changes: Sequence[tuple[int, bytes, bytes]], term: str | None = None
                      ) -> list[bool]:
        """As the port says."""
        done = []
        for metadata_id, old, new in changes:
            done.append(self._values.get(metadata_id) in (old, new))
            if done[-1]:
                await self.commit([(metadata_id, new)], term)
        return done

    async def get(self, metadata_id: int) -> bytes | None:
        """As the port says."""
        return self._values.get(metadata_id)

    async def changes(self, since: bytes) -> tuple[bytes, Collection[int] | None]:  # noqa: ARG002
        """It cannot tell."""
        return b"", None

    async def delete(self, ids: Sequence[int], term: str | None = None) -> None:
        """As the port says."""
        assert not term
        for metadata_id in ids:
            self._values.pop(metadata_id, None)

    async def scan(self, start: int = 0) -> AsyncIterator[tuple[int, bytes]]:
        """As the port says."""
        for metadata_id in sorted(self._values):
            if metadata_id >= start:
                yield metadata_id, self._values[metadata_id]

    async def ping(self) -> None:
        """Always serves."""

    async def close(self) -> None:
        """Nothing to close."""
