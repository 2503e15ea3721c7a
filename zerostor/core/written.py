"""What was written in TOML and in `ZEROSTOR_SECTION_KEY` variables, and how it becomes settings.

Every complaint says where the setting was written, and names the nearest one that exists.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_type_hints

import msgspec

from zerostor.core.errors import SetupError
from zerostor.core.setting_types import Networks, Seconds, Secret, Size, Urls
from zerostor.core.settings import SECTIONS, Policy, nearest
from zerostor.core.units import Address, parse_address, parse_seconds, parse_size

PREFIX = "ZEROSTOR_"
NOT_SETTINGS = ("SERVER", "DATA", "CONFIG")
"""Variables with our prefix that are read elsewhere."""
_KUBERNETES = re.compile(r"(\w+_)?(SERVICE_(HOST|PORT\w*)|PORT(_\d+_(TCP|UDP)\w*)?)")
"""Kubernetes puts these into every pod beside a service that is named zerostor."""
_S = TypeVar("_S", bound=msgspec.Struct)


class Written:
    """What was written, and where: a TOML text with the environment laid over it.

    file: the name that complaints call the text by. Raises SetupError when it is no TOML, and for
    variables that are no settings.
    """

    def __init__(self, file: str, text: str, environ: Mapping[str, str]) -> None:
        self._file = file
        self._lines = text.splitlines()
        self._variables: dict[tuple[str, ...], str] = {}
        try:
            self.tree: dict[str, Any] = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise SetupError(f"{file}: {error}") from error
        for variable in sorted(environ):
            rest = variable.removeprefix(PREFIX)
            if rest != variable and rest not in NOT_SETTINGS and not _KUBERNETES.fullmatch(rest):
                self._overlay(variable, environ[variable])

    def place(self, *path: str) -> str:
        """'ZEROSTOR_X' or 'file.toml line 3: gateway.listen' of a setting."""
        if path in self._variables:
            return self._variables[path]
        table, key = ".".join(step for step in path[:-1] if not step.isdigit()), path[-1]
        entry = 0 if path[0] == "store" and len(path) > 1 else None
        pattern = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""")
        header = ""
        for number, line in enumerate(self._lines, 1):
            if line.lstrip().startswith("["):
                header = line.partition("#")[0].strip().strip("[] ")
                entry = entry + 1 if entry is not None and header == "store" else entry
            here = entry is None or path[1] == str(entry - 1)
            if here and (header == ".".join(path) or (header == table and pattern.match(line))):
                return f"{self._file} line {number}: {'.'.join(path)}"
        return f"{self._file}: {'.'.join(path)}" if self._file else ".".join(path)

    def from_environment(self, *path: str) -> bool:
        """True when a variable gave this setting."""
        return path in self._variables

    def table(self, *path: str) -> dict[str, Any]:
        """The table at `path`, empty if nothing was written there; [[store]] N is (store, "N")."""
        found: Any = self.tree
        for step in path:
            found = found[int(step)] if isinstance(found, list) else found.get(step, {})
            if not isinstance(found, dict) and (found is not self.tree.get("store")):
                if path[0] == "policy" and path[-1] in Policy.__struct_fields__:
                    raise SetupError(f"{self.place(*path)}: write it under [policy.default]")
                raise SetupError(f"{self.place(*path)} must be a table, [{'.'.join(path)}]")
        assert isinstance(found, dict)
        return found

    def _overlay(self, variable: str, value: str) -> None:
        path = self._path_of(variable)
        self._variables[path] = variable
        table = self.table(*path[:-1])
        if path[0] == "store":
            table[path[-1]] = value
            return
        here = self.tree
        for step in path[:-1]:
            here = here.setdefault(step, {})
        here[path[-1]] = value

    def _path_of(self, variable: str) -> tuple[str, ...]:
        section, _, key = variable.removeprefix(PREFIX).lower().partition("_")
        if section in SECTIONS and key in SECTIONS[section].__struct_fields__:
            return section, key
        if section == "policy":
            for field in Policy.__struct_fields__:
                name = key.removesuffix(f"_{field}")
                if name not in (key, ""):
                    known = (name for name in self.table("policy"))
                    return section, next((n for n in known if _plain(n) == name), name), field
        if section == "store" and key.endswith("_password"):
            name, tables = key.removesuffix("_password"), self.tree.get("store")
            for number, table in enumerate(tables if isinstance(tables, list) else []):
                if isinstance(table, dict) and _plain(str(table.get("name"))) == name:
                    return section, str(number), "password"
            raise SetupError(f"{variable}: there is no [[store]] of that name")
        raise SetupError(f"{variable} in the environment is not a setting{_nearest(variable)}")


def _plain(name: str) -> str:
    """The name of a policy or store as a variable can spell it."""
    return re.sub(r"[.-]", "_", name)


def _nearest(variable: str) -> str:
    known = [f"{name}_{key}" for name, kind in SECTIONS.items() for key in kind.__struct_fields__]
    known += [f"policy_default_{key}" for key in Policy.__struct_fields__]
    known += NOT_SETTINGS
    hint = nearest(variable, [f"{PREFIX}{name.upper()}" for name in known])
    return hint.partition("; there is")[0]


def _read_text(value: object) -> str:
    if not isinstance(value, str):
        raise SetupError("must be text in quotes")
    return value


def _read_count(value: object) -> int:
    text = str(value)
    if isinstance(value, (bool, float)) or not re.fullmatch(r"-?[0-9]{1,18}", text, re.ASCII):
        raise SetupError(f"must be a whole number, not {value!r}")
    return int(text)


def _read_switch(value: object) -> bool:
    words = {"true": True, "1": True, "yes": True, "on": True}
    words |= {"false": False, "0": False, "no": False, "off": False}
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in words:
        raise SetupError(f"must be true or false, not {value!r}")
    return words[value.lower()]


def _read_size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise SetupError("must be a size, as in 100MB")
    return parse_size(value)


def _read_seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise SetupError("must be a time, as in 5m")
    return parse_seconds(value)


def _read_urls(value: object) -> tuple[str, ...]:
    texts = [_read_text(text) for text in (value if isinstance(value, list) else [value])]
    # A path or password may have a comma in it; an address behind one begins with its scheme.
    return tuple(url.strip() for text in texts for url in re.split(r",(?=\s*[a-z+]+://)", text))


def _read_networks(value: object) -> tuple[str, ...]:
    texts = [_read_text(text) for text in (value if isinstance(value, list) else [value])]
    return tuple(filter(None, (part.strip() for text in texts for part in text.split(","))))


def _read_labels(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise SetupError('must be names with text, as in { host = "nas", site = "home" }')
    return value


READERS: dict[object, Callable[[object], object]] = {
    str: _read_text,
    int: _read_count,
    bool: _read_switch,
    Size: _read_size,
    Seconds: _read_seconds,
    Address: lambda value: parse_address(_read_text(value)),
    Urls: _read_urls,
    Networks: _read_networks,
    Secret: lambda value: Secret(_read_text(value)),
    dict[str, str]: _read_labels,
}


def fill(kind: type[_S], written: Written, *path: str) -> _S:
    """The table at `path` as `kind`. Raises SetupError that says where and what is wrong."""
    types = get_type_hints(kind)
    values: dict[str, object] = {}
    for key, value in written.table(*path).items():
        place = written.place(*path, key)
        if key not in types:
            raise SetupError(f"{place}: there is no such setting{nearest(key, types)}")
        if types[key] is Secret and not written.from_environment(*path, key):
            raise SetupError(f"{place}: name a file with it in {key}_file instead")
        try:
            values[key] = READERS[types[key]](value)
        except SetupError as error:
            raise SetupError(f"{place}: {error}") from None
    return kind(**values)
