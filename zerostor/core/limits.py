"""Every size, count and time that is not a setting, with the relations between them asserted."""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

CONTENT_HASH_SIZE = 24
"""Bytes of BLAKE3-192 over the content; 48 of the 56 hex digits of a hash."""
METADATA_ID_MAX = 2**32 - 1
"""Largest metadata id a link can carry in its last 8 hex digits."""
SALT_SIZE = 32
"""Random bytes that the hash of a private object is keyed with; the size of a BLAKE3 key."""
JOB_ID_SIZE = 16
"""Random bytes of a job id (128 bits, so it cannot be guessed)."""
OWNER_SIZE = 64
"""Hex digits of the Ed25519 key that signed in to upload an object."""
SHARD_KEY_SIZE = 16
"""Random bytes that name a stripe set on its stores."""
CHECKSUM_SIZE = 16
"""Bytes of the BLAKE3-128 checksum of a cell."""
EXTENSION_MAX = 16

SHARDS_MAX = 256
"""zfec's field GF(2^8) has room for this many shards in one code."""
CELL_SIZE = MIB
"""Largest cell; a stripe is `data` of these."""
CELL_MIN = 3584
"""Smallest cell: with its trailer a shard this small still takes one 4 KiB block of a disk, and the
read of a small object touches few stores."""
OFFSET_MAX = 2**62
"""Largest place in a shard that a record or trailer may name; the system takes 63 bits."""
CELL_ALIGN = 64
"""Cells are padded to this, so that vector code never meets a tail."""

PACK_OBJECT_MAX = 2 * MIB
"""Objects up to this size share stripes with others when several wait."""
PACK_OBJECTS = 1024
"""Most objects in one pack."""

VOLUME_SHARD_SIZE = 16 * MIB
"""Packs are appended to a volume until its shards are this large."""
VOLUME_PACKS = 256
"""Or it has so many of them: a 0-db store writes a head that names all parts with each append. Of
packs of 4 KiB a shard the heads are a tenth on top then; up to 16 MiB they were half as much again
as the packs.
"""

VOLUME_IDLE, VOLUME_AGE = 600.0, 3600.0
"""Seconds after which nothing is appended any more to a volume that was not used, and to any."""

RECORD_MAX = 8 * MIB
"""Largest metadata record; the payload limit of 0-db."""

STATUS_WAIT_MAX = 60.0
"""Longest long-poll, seconds."""
JOB_TRIES = 5
"""Attempts before a job goes to the dead-letter list."""
RESULT_KEEP = 24 * 3600
"""Seconds for which a finished job's status can be asked."""

HOME_ENTRIES_MAX = 1_000_000
"""Files and folders of one home: an empty file costs its limit nothing and the disk an inode, and
the walk that counts a home has to end within seconds."""
LISTED, LISTED_MAX = 100, 1000
"""Links or events of an SSH home in one answer, if nothing else is asked, and at most."""

WITNESSES = 5
"""Stores that are not believed to lie, or to be out of date, all in the same way."""

RSYNC_RUNS = 16
"""rsync transfers of all homes at a time; each takes up to three processes."""
RSYNC_USER_RUNS = 4
"""Of them, those of one home."""

assert CONTENT_HASH_SIZE * 2 + 8 == 56
assert CELL_SIZE % CELL_ALIGN == 0 == CELL_MIN % CELL_ALIGN
assert PACK_OBJECT_MAX <= 16 * CELL_SIZE
