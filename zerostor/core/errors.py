"""The one error tree. The branch says who must act; `code` is stable and machine readable.

    ZerostorError
    ├─ RequestError        the caller: mend the request (4xx)
    │  ├─ BadLink  BadExtension  BadRequest  TooLarge  NotAllowed  SignInNeeded  TooManyRequests
    │  ├─ WrongHost  ObjectRemoved  WrongState
    │  └─ NotFound
    │     ├─ UnknownObject
    │     ├─ UnknownJob  UnknownStore
    │     ├─ UnknownHome  SshOff  UnknownSession  SignInOff
    │     └─ UnknownNode  UnknownStream  NodesOff
    ├─ DataError           the bytes: what was stored is not what was read
    │  ├─ CellCorrupt  RecordCorrupt  ShardCorrupt  LogCorrupt  SpoolCorrupt  LinkBroken
    │  └─ ObjectUnreadable
    ├─ BackendError        the world: a store, the queue, the disk; `retryable`: waiting may help
    │  ├─ ShardMissing
    │  ├─ StoreUnavailable  StoreTimeout  StoreReadOnly  StoreFull
    │  ├─ NotEnoughStores
    │  ├─ QueueUnavailable  MetadataUnavailable
    │  ├─ NotTheMaster
    │  ├─ NodeAway  NodeFull  NodeFault(NodeRefusal)  ChunkMissing  ChunkCorrupt  HubAway
    │  └─ SpoolFull  SpoolAway  HomesAway  HomeChanged  Busy
    └─ SetupError          the operator: configuration, folders, ports

Bugs are `assert`, never one of these. HTTP statuses are mapped once, in gateway/http_errors.py.
"""

from __future__ import annotations


class ZerostorError(Exception):
    """Base of every error that zerostor raises on purpose; str() is one sentence for a person."""

    code = "internal"
    retryable = False


class RequestError(ZerostorError):
    """The caller can mend it."""

    code = "bad-request"


class BadRequest(RequestError):
    """A parameter or body that cannot be understood."""

    code = "bad-request"


class WrongHost(RequestError):
    """The host name that was asked serves something else."""

    code = "wrong-host"


class BadLink(RequestError):
    """Not 56 hex digits with an optional extension."""

    code = "bad-link"


class BadExtension(RequestError):
    """An extension that is empty, too long or has characters outside letters and digits."""

    code = "bad-extension"


class TooLarge(RequestError):
    """More bytes than the configured limit."""

    code = "too-large"


class NotAllowed(RequestError):
    """The caller did not prove that it may ask for this."""

    code = "not-allowed"


class SignInNeeded(RequestError):
    """The caller has to say who it is first, or its credential is not good here."""

    code = "sign-in-needed"


class SessionExpired(SignInNeeded):
    """It was good, and its day is over."""


class TooManyRequests(RequestError):
    """The caller asks too often. seconds: after which it may try again."""

    code = "too-many-requests"

    def __init__(self, reason: str = "too many requests", seconds: int = 1) -> None:
        super().__init__(reason)
        self.seconds = seconds


class ObjectRemoved(RequestError):
    """There was an object with this hash: it was removed, or is in quarantine."""

    code = "removed"

    def __init__(self, reason: str = "the object behind this link was removed") -> None:
        super().__init__(reason)


class WrongState(RequestError):
    """What is asked for does not go with the state that it is in."""

    code = "wrong-state"


class NotFound(RequestError):
    """What was asked for is not here."""

    code = "not-found"


class UnknownObject(NotFound):
    """No record with that metadata id carries that content hash."""

    code = "unknown-object"


class UnknownJob(NotFound):
    """No such job, or its result is older than the time results are kept."""

    code = "unknown-job"


class UnknownStore(NotFound):
    """There is no store of that name."""

    code = "unknown-store"


class UnknownHome(NotFound):
    """No user of that name has an SSH home here."""

    code = "unknown-home"


class SshOff(NotFound):
    """This zerostor has no SSH process, by its settings."""

    code = "ssh-off"


class UnknownSession(NotFound):
    """No session of that id was issued to who asks."""

    code = "unknown-session"


class SignInOff(NotFound):
    """Nobody signs in with a key here, by the settings."""

    code = "sign-in-off"


class UnknownNode(NotFound):
    """No node of that name may dial in here."""

    code = "unknown-node"


class UnknownStream(NotFound):
    """Nothing was ever appended to a stream of that name."""

    code = "unknown-stream"


class NodesOff(NotFound):
    """This zerostor has no node hub, by its settings."""

    code = "nodes-off"


class DataError(ZerostorError):
    """Bytes that fail their check."""

    code = "data"


class CellCorrupt(DataError):
    """A cell whose checksum is not the one in the record."""

    code = "cell-corrupt"


class RecordCorrupt(DataError):
    """A metadata record that cannot be decoded."""

    code = "record-corrupt"


class ShardCorrupt(DataError):
    """A shard whose trailer is damaged or belongs to another shard."""

    code = "shard-corrupt"


class LogCorrupt(DataError):
    """A metadata log with damage before its tail."""

    code = "log-corrupt"


class SpoolCorrupt(DataError):
    """A spool entry whose footer or content hash does not fit its bytes."""

    code = "spool-corrupt"


class LinkBroken(DataError):
    """What came from a node is not EDN/1, or not from who it should be: its connection ends."""

    code = "link-broken"


class ObjectUnreadable(DataError):
    """Fewer good cells than the policy needs, for now or for good."""

    code = "object-unreadable"
    retryable = True


class BackendError(ZerostorError):
    """Something outside this process failed."""

    code = "backend"
    retryable = True


class ShardMissing(BackendError):
    """The store answers, and does not have this shard."""

    code = "shard-missing"
    retryable = False


class StoreUnavailable(BackendError):
    """The store cannot be reached or reports an I/O error."""

    code = "store-unavailable"


class StoreTimeout(StoreUnavailable):
    """The store did not answer in time."""

    code = "store-timeout"


class StoreReadOnly(StoreUnavailable):
    """The store can be read and not written."""

    code = "store-read-only"


class StoreFull(BackendError):
    """The store has no room."""

    code = "store-full"


class NotEnoughStores(BackendError):
    """Fewer stores are up than the policy needs for a durable write."""

    code = "not-enough-stores"


class QueueUnavailable(BackendError):
    """Redis cannot be reached."""

    code = "queue-unavailable"


class MetadataUnavailable(BackendError):
    """The metadata store cannot be reached."""

    code = "metadata-unavailable"


class NotTheMaster(BackendError):
    """This grid only reads. master: where to write instead, empty if that is not known."""

    code = "not-the-master"

    def __init__(self, reason: str = "this gateway only reads", master: str = "") -> None:
        super().__init__(reason)
        self.master = master


class SpoolFull(BackendError):
    """The disk of the spool has no room for an upload."""

    code = "spool-full"


class SpoolAway(BackendError):
    """The gateway that has the upload in its spool cannot be reached."""

    code = "spool-away"


class HomesAway(BackendError):
    """The SSH process, which has the homes, does not answer."""

    code = "homes-away"


class HubAway(BackendError):
    """The process of the node hub does not answer."""

    code = "hub-away"


class NodeAway(BackendError):
    """The node is not connected, or left in the middle."""

    code = "node-away"


class NodeFull(BackendError):
    """The flash of the node has no room for the chunk."""

    code = "node-full"


class NodeFault(BackendError):
    """The node answered something that no node should."""

    code = "node-fault"


class NodeRefusal(NodeFault):
    """The node answers in order that it will not, for a reason of its own."""

    code = "node-refusal"


class ChunkMissing(BackendError):
    """The node answers, and does not have this chunk."""

    code = "chunk-missing"
    retryable = False


class ChunkCorrupt(BackendError):
    """The node has the chunk, but not whole, or with other bytes."""

    code = "chunk-corrupt"


class HomeChanged(BackendError):
    """A file of a home changed while it was read."""

    code = "home-changed"


class Busy(BackendError):
    """A bounded resource is used up; try again in a moment."""

    code = "busy"


class SetupError(ZerostorError):
    """The operator can mend it; the message says how."""

    code = "setup"
