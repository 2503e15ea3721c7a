"""Events in the same words wherever they happen; each function makes one, ready to be appended."""

from __future__ import annotations

from collections.abc import Mapping

from zerostor.core.events import Event, EventKind, FieldValue, Severity
from zerostor.core.forecast import Forecast
from zerostor.core.health import Condition
from zerostor.core.homes import HomeEvent, HomeEvents, shown
from zerostor.core.nodes import NodeEvent, NodeEventKind
from zerostor.core.units import seconds_text, size_text

NORMAL, WARNING, FAILURE = Severity
_CONDITIONS = {
    Condition.DOWN: (FAILURE, EventKind.STORE_DOWN, "is down"),
    Condition.READ_ONLY: (WARNING, EventKind.STORE_READ_ONLY, "takes no writes"),
    Condition.FULL: (WARNING, EventKind.STORE_FULL, "is full"),
    Condition.SLOW: (WARNING, EventKind.STORE_SLOW, "is slower than the others"),
    Condition.UP: (NORMAL, EventKind.STORE_UP, "is up again"),
}
_ACTIVITIES = {
    "uploads": ("upload", "uploads"), "repairs": ("repair", "repairs"),
    "removals": ("removal", "removals"), "rebuilt": ("read rebuilt", "reads rebuilt"),
}


def activity(**counted: int) -> Event:
    """What went well: uploads, bytes, repairs, removals, rebuilt. Told as sums over a period."""
    return Event(severity=NORMAL, kind=EventKind.ACTIVITY, text=activity_text(counted),
                 fields=dict(counted))


def activity_text(counted: Mapping[str, FieldValue]) -> str:
    """The sums as a sentence."""
    parts = [f"{counted[name]} {one if counted[name] == 1 else several}"
             for name, (one, several) in _ACTIVITIES.items() if counted.get(name)]
    size = counted.get("bytes")
    if isinstance(size, int | float) and size:
        parts.insert(1 if counted.get("uploads") else 0, size_text(size))
    return ", ".join(parts)


def corruption_read(stripe_set: int, shards: int) -> Event:
    """A read met shards that are not what was written; it did without them."""
    return Event(severity=WARNING, kind=EventKind.CORRUPTION_FOUND, subject=str(stripe_set),
                 text=f"a read met {shards} bad shard{'s' if shards != 1 else ''} of stripe set"
                      f" {stripe_set}: a repair is asked for",
                 fields={"metadata_id": stripe_set, "shards": shards})


def job_failed(job: str, reason: str) -> Event:
    """An upload that is not tried again by itself. Its bytes are kept."""
    return Event(severity=FAILURE, kind=EventKind.JOB_FAILED, subject=job,
                 text=f"job {job} failed for good: {reason}", fields={"job": job})


def object_changed(kind: EventKind, link: str, by: str) -> Event:
    """OBJECT_REMOVED, OBJECT_RESTORED, OBJECT_QUARANTINED, OBJECT_RELEASED. by: who asked it."""
    word = kind.value.partition("-")[2]
    # Each removal is somebody's loss if he did not mean it, and can be undone for a while.
    severity = NORMAL if kind is EventKind.OBJECT_RESTORED else WARNING
    return Event(severity=severity, kind=kind, subject=link,
                 text=f"{link} {word}{f' by {by}' if by else ''}",
                 fields={"object": link, "by": by})


def objects_reclaimed(count: int, size: int) -> Event:
    """Removed objects whose shards are gone now, with their bytes on all stores."""
    return Event(severity=NORMAL, kind=EventKind.OBJECTS_RECLAIMED,
                 text=f"{count} removed objects reclaimed, {size_text(size)}",
                 fields={"objects": count, "bytes": size})


def store_condition(store: str, condition: Condition, reason: str) -> Event | None:
    """What a store is now, as several looks agree; None of what somebody asked for."""
    found = _CONDITIONS.get(condition)
    if found is None:
        return None
    severity, kind, text = found
    why = f": {reason}" if reason and condition is not Condition.UP else ""
    return Event(severity=severity, kind=kind, subject=store, text=f"store {store} {text}{why}",
                 fields={"store": store, "condition": condition.value})


def filling_up(subject: str, found: Forecast) -> Event:
    """subject: "store NAME" or "pool NAME"."""
    return Event(severity=WARNING, kind=EventKind.CAPACITY, subject=subject,
                 text=f"{subject} is full in {seconds_text(found.seconds)} at this rate"
                      f" ({size_text(86_400 * found.rate)} a day, {size_text(found.free)} free)",
                 fields={"seconds": round(found.seconds), "free": found.free,
                         "bytes_per_day": round(86_400 * found.rate)})


def replication(kind: EventKind, slave: str, why: str) -> Event:
    """REPLICATION_LAGS, REPLICATION_CUT_OFF, REPLICATION_DIFFERS, REPLICATION_CAUGHT_UP.

    slave: as its master knows it; empty: this one.
    """
    severity = {EventKind.REPLICATION_LAGS: WARNING,
                EventKind.REPLICATION_CAUGHT_UP: NORMAL}.get(kind, FAILURE)
    who = f"slave {slave}" if slave else "this slave"
    return Event(severity=severity, kind=kind, subject=slave, text=f"{who} {why}",
                 fields={"slave": slave})


def replication_role(kind: str, master: str) -> Event:
    """This metadata server is something else from now on. kind: master or slave."""
    of = f" of {master}" if master else ""
    return Event(severity=WARNING, kind=EventKind.REPLICATION_ROLE, subject=kind,
                 text=f"the metadata here is that of a {kind}{of} now", fields={"role": kind})


def metadata_away(why: str) -> Event:
    """The metadata server does not answer."""
    return Event(severity=FAILURE, kind=EventKind.METADATA_AWAY,
                 text=f"the metadata cannot be reached: {why}")


def metadata_back() -> Event:
    """It answers again."""
    return Event(severity=NORMAL, kind=EventKind.METADATA_BACK, text="the metadata is there again")


_OF_NODES = {
    NodeEventKind.JOINED: (NORMAL, EventKind.NODE_JOINED, "joined"),
    NodeEventKind.LEFT: (NORMAL, EventKind.NODE_LEFT, "left"),
    NodeEventKind.ADOPTED: (NORMAL, EventKind.NODE_CHANGED, "had chunks that nobody knew"),
    NodeEventKind.WIPED: (NORMAL, EventKind.NODE_CHANGED, "was wiped"),
    NodeEventKind.UPDATED: (NORMAL, EventKind.NODE_CHANGED, "has new firmware"),
    NodeEventKind.REKEYED: (NORMAL, EventKind.NODE_CHANGED, "has a new key"),
    NodeEventKind.REFUSED: (WARNING, EventKind.NODE_TROUBLE, "was refused"),
    NodeEventKind.REPLACED: (WARNING, EventKind.NODE_TROUBLE, "came twice"),
    NodeEventKind.FULL: (WARNING, EventKind.NODE_TROUBLE, "is full"),
    NodeEventKind.FOREIGN: (WARNING, EventKind.NODE_TROUBLE, "has a flash with something else"),
    NodeEventKind.FAULT: (WARNING, EventKind.NODE_TROUBLE, "did what no node should"),
    NodeEventKind.LOST: (WARNING, EventKind.NODE_TROUBLE, "has lost a chunk"),
    NodeEventKind.CORRUPT: (WARNING, EventKind.NODE_TROUBLE, "has a damaged chunk"),
}


def of_node(happened: NodeEvent) -> Event:
    """What the node hub tells."""
    severity, kind, text = _OF_NODES[happened.kind]
    why = f": {happened.detail}" if happened.detail else ""
    return Event(severity=severity, kind=kind, subject=happened.node,
                 text=f"node {happened.node or '?'} {text}{why}", at_ms=int(happened.at * 1000),
                 fields={"node": happened.node, "what": happened.kind.value})


def of_home(happened: HomeEvent) -> Event | None:
    """What happened in a home without its user's doing; None of what went well."""
    path = shown(happened.path)
    if happened.kind == HomeEvents.REMOVED:
        severity, kind, text = NORMAL, EventKind.HOME_REMOVALS, f"{path} was removed for room"
    elif happened.kind == HomeEvents.FAILED:
        severity, kind, text = WARNING, EventKind.HOME_FAILED, f"{path} was not stored"
    else:
        return None
    why = f": {happened.detail}" if happened.detail else ""
    return Event(severity=severity, kind=kind, subject=happened.user,
                 text=f"home {happened.user}: {text}{why}",
                 fields={"home": happened.user, "path": path, "bytes": happened.size})


def certificate(place: str, seconds: float) -> Event:
    """It expires in so many seconds, or did."""
    left = (f"expires in {seconds_text(seconds)}" if seconds > 0 else
            f"expired {seconds_text(abs(seconds))} ago")
    return Event(severity=WARNING if seconds > 86_400 else FAILURE,
                 kind=EventKind.CERTIFICATE_EXPIRES, subject=place,
                 text=f"the certificate in {place} {left}", fields={"seconds": round(seconds)})


def certificate_renewed(place: str) -> Event:
    """Another one is there, which is good for long."""
    return Event(severity=NORMAL, kind=EventKind.CERTIFICATE_RENEWED, subject=place,
                 text=f"the certificate in {place} is a new one")


def logins_refused(address: str) -> Event:
    """Somebody there guesses."""
    return Event(severity=WARNING, kind=EventKind.LOGINS_REFUSED, subject=address,
                 text=f"too many wrong credentials came from {address}: it has to wait",
                 fields={"address": address})
