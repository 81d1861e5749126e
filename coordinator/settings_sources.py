"""Where settings come from: the check of one value against its key, TOML files, and the environment."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeGuard

from coordinator.settings_table import KEYS, ONLY_IN, Env, Key, Kind, Value

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,20}\Z")
_TEXT_LIMIT = 4_096
#: Names under this prefix are surely meant as keys; others (AGENC_URL, Kubernetes' AGENC_PORT) may not be.
_SURELY_OURS = "AGENC_SPECULATION_"


class Source(StrEnum):
    """The layer that a value came from."""

    ENVIRONMENT = "environment"
    RUNTIME = "runtime"
    FILE = "file"
    MODE = "mode"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Layer:
    """One source's values, each already checked; `detail` names the file or the writer."""

    source: Source
    detail: str
    values: Mapping[str, Value]


class BadValueError(ValueError):
    """A value that its key does not allow; the message names key, value and range."""


def checked_value(key: Key, value: object, env: Env) -> Value:
    """The value in its stored form: ints of float keys as floats, lists as tuples.

    Raises:
        BadValueError: wrong type, out of range, not a choice, or refused in this profile.
    """
    checked = _typed(key, value)
    allowed = ONLY_IN.get((key.name, checked)) if isinstance(checked, str) else None
    if allowed is not None and env not in allowed:
        where = ", ".join(sorted(allowed))
        raise BadValueError(f"{key.name}: {checked} is refused in the profile {env}; allowed in {where}")
    return checked


def read_environment(environ: Mapping[str, str], env: Env, problems: list[str]) -> Layer:
    """The keys that the environment pins. An empty variable counts as absent."""
    values: dict[str, Value] = {}
    names = {key.environment_name: key for key in KEYS.values()}
    for variable, text in environ.items():
        key = names.get(variable)
        if key is None:
            if variable.startswith(_SURELY_OURS):
                problems.append(f"{variable}: no such key")
        elif text:
            try:
                values[key.name] = checked_value(key, _parsed(key, text), env)
            except BadValueError as problem:
                problems.append(f"{variable}: {problem}")
    return Layer(Source.ENVIRONMENT, "environment", values)


def read_file(path: Path, env: Env, problems: list[str]) -> Layer:
    """The keys of one TOML file, written flat (`speculation.max_depth = 3`) or as tables."""
    values: dict[str, Value] = {}
    for name, value in _toml_items(path, problems):
        key = KEYS.get(name)
        if key is None:
            problems.append(f"{path.name}: {name[:100]}: no such key")
        elif name in values:
            problems.append(f"{path.name}: {name} is given twice")
        else:
            try:
                values[name] = checked_value(key, value, env)
            except BadValueError as problem:
                problems.append(f"{path.name}: {problem}")
    return Layer(Source.FILE, path.name, values)


def _toml_items(path: Path, problems: list[str]) -> Iterator[tuple[str, object]]:
    try:
        # utf-8-sig: editors on Windows put a byte order mark before the text, which tomllib refuses.
        tables = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        if path.name != f"{Env.TEST}.toml":
            problems.append(f"{path}: no such file")
        return
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        problems.append(f"{path}: cannot be read: {error}")
        return
    waiting: list[tuple[str, object]] = list(tables.items())
    while waiting:
        name, value = waiting.pop(0)
        if isinstance(value, dict):
            waiting.extend((f"{name}.{inner}", item) for inner, item in value.items())
        else:
            yield name, value


def _parsed(key: Key, text: str) -> object:
    """The text of an environment variable as its key's type, or as it stands where it is not of that type."""
    text = text.strip()
    match key.kind:
        case Kind.BOOL:
            return True if text.lower() in _TRUE else False if text.lower() in _FALSE else text
        case Kind.INT | Kind.INT_OR_AUTO:
            return int(text) if _WHOLE_NUMBER.match(text) else text
        case Kind.FLOAT:
            try:
                return float(text)
            except ValueError:
                return text
        case Kind.TEXT_LIST:
            return [part.strip() for part in text.split(",")]
        case Kind.CHOICE | Kind.TEXT:
            return text


def _typed(key: Key, value: object) -> Value:
    match key.kind:
        case Kind.BOOL if isinstance(value, bool):
            return value
        case Kind.INT if _is_int_within(value, key):
            return value
        case Kind.INT_OR_AUTO if _is_int_within(value, key):
            return value
        case Kind.INT_OR_AUTO if value == "auto":
            return "auto"
        case Kind.FLOAT if _is_number_within(value, key):
            return float(value)
        case Kind.CHOICE if isinstance(value, str) and value in key.choices:
            return value
        case Kind.TEXT if _is_text(value):
            return value
        case Kind.TEXT_LIST if _is_text_list(value):
            return tuple(value)
    shown = "this" if key.secret else repr(value)[:100]
    raise BadValueError(f"{key.name}: {shown} is not allowed; expected {key.range_text}")


def _is_int_within(value: object, key: Key) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and key.low <= value <= key.high


def _is_number_within(value: object, key: Key) -> TypeGuard[int | float]:
    # NaN fails both comparisons; an integer too great for a float is compared exactly, never converted.
    return isinstance(value, int | float) and not isinstance(value, bool) and key.low <= value <= key.high


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= _TEXT_LIMIT and value.isprintable()


def _is_text_list(value: object) -> TypeGuard[list[str] | tuple[str, ...]]:
    return isinstance(value, list | tuple) and len(value) > 0 and all(map(_is_text, value))
