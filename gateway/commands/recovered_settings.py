"""The settings that a recovery writes, so that `zerostor up` runs with the stores it was given."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from zerostor.core.settings import Policy, StoreSettings

_HEADER = re.compile(r"\s*\[+\s*([^\]]*?)\s*\]+")


def settings_text(
    kept: str, stores: Sequence[StoreSettings], absent: Sequence[StoreSettings],
    policies: Mapping[str, Policy]
) -> str:
    """TOML with these stores in the place of those in `kept`. absent: which nobody has brought yet.

    policies: those to write where `kept` has none.
    """
    parts = ["# Written by `zerostor recover`; yours to change.\n"]
    rest = without_stores(kept).strip("\n")
    if rest:
        parts.append(rest + "\n")
    if "policy" not in tomllib.loads(rest):
        parts += [_policy_text(name, policy) for name, policy in sorted(policies.items())]
    parts += map(_store_text, stores)
    if absent:
        parts.append("# Not given to the recovery. Where a disk comes back, write its folder here;"
                     "\n# to put a new one in its place: zerostor stores init NAME\n")
        parts += map(_store_text, absent)
    return "\n".join(parts)


def without_stores(text: str) -> str:
    """`text` without its [[store]] tables."""
    lines, inside = [], False
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            inside = header[1].split(".")[0].strip("\"' ") == "store"
        if not inside:
            lines.append(line)
    return "\n".join(lines)


def _policy_text(name: str, policy: Policy) -> str:
    private = "private = true\n" if policy.private else ""
    return f"[policy.{_key(name)}]\ndata = {policy.data}\nparity = {policy.parity}\n{private}"


def _store_text(store: StoreSettings) -> str:
    lines = ["[[store]]", f"name = {_text(store.name)}", f"url = {_text(store.url)}"]
    if store.pool != StoreSettings().pool:
        lines.append(f"pool = {_text(store.pool)}")
    if store.labels:
        labels = ", ".join(f"{_key(name)} = {_text(value)}" for name, value in store.labels.items())
        lines.append(f"labels = {{ {labels} }}")
    if store.password_file:
        lines.append(f"password_file = {_text(store.password_file)}")
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    """A TOML string, whose escapes are those of JSON."""
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def policies_seen(
    seen: Mapping[str, Counter[tuple[int, int]]], private: Collection[str] = ()
) -> dict[str, Policy]:
    """The policy of each name in records; a name that only objects in packs have gets theirs.

    private: those that had private objects only, and go on so.
    """
    packs = seen.get("", Counter())
    found = {}
    for name, shapes in seen.items():
        most = (shapes or packs).most_common(1)
        if name and most:
            found[name] = Policy(*most[0][0], private=name in private)
    if packs and "default" not in found:
        found["default"] = Policy(*packs.most_common(1)[0][0], private="default" in private)
    return found


def absent_stores(
    given: Sequence[StoreSettings], named: Sequence[str], policies: Mapping[str, Policy], root: Path
) -> list[StoreSettings]:
    """Stores that records name and nobody gave, and as many more as the policies need."""
    names = [name for name in sorted(named) if name not in {store.name for store in given}]
    needed = max((policy.total for policy in policies.values()), default=Policy().total)
    taken = {store.name for store in given} | set(names)
    number = 0
    while len(given) + len(names) < needed:
        number += 1
        if f"new-{number}" not in taken:
            names.append(f"new-{number}")
    return [StoreSettings(name, f"dir://{root}/stores/{name}") for name in names]
