"""From YAML to a frozen tree of dataclasses: keys, types and settings, with errors that help.

Knows no experiment; `image`, `utility` and `tabular` beside it do.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from medsynth.errors import ConfigError

USES = {
    "image": "`medsynth train` takes it.",
    "tabular": "`medsynth train` takes it.",
    "utility": "`medsynth evaluate utility` takes it.",
}
"""Which verb takes a configuration, by its kind."""


def read(
    cls: type, text: str, where: str, settings: Sequence[str] = (), kind: str | None = None
) -> Any:
    """A dataclass from YAML text and `key=value` overrides.

    Args:
        cls: What the tree is validated into.
        text: YAML.
        where: Its file, for messages.
        settings: `key=value`; a mistake in one names that one as its place, not the file.
        kind: What the key `kind` must say, where it is given.

    Raises:
        ConfigError: No YAML, not keys and values, a configuration of another kind, a setting
            without `=`, an unknown key, a missing one or a value of the wrong type.
    """
    tree = _tree(text, where)
    if kind and tree.get("kind", kind) != kind:
        other = str(tree["kind"])
        raise ConfigError(
            f"a configuration of kind: {kind}", f"one of kind: {other}", where, USES.get(other)
        )
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(
                "--set KEY=VALUE", repr(setting), None, "For example --set train.steps=10."
            )
        path = key.strip().split(".")
        _set(tree, path, _alone(cls, path, value, f"--set {setting}"), setting)
    return build(cls, tree, where)


def _tree(text: str, where: str) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f", at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError("YAML", f"text that is none{at}", where) from error
    if not isinstance(tree, dict):
        raise ConfigError("keys and values", type(tree).__name__, where)
    return tree


def _alone(cls: type, path: Sequence[str], text: str, where: str) -> Any:
    """The value of one setting, if the tree has such a key and it takes such a value."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError("a value in YAML", repr(text), where) from error
    kind: Any = cls
    for depth, part in enumerate(path):
        if not dataclasses.is_dataclass(kind):
            raise ConfigError("a section", f"a value at {'.'.join(path[:depth])!r}", where)
        hints = typing.get_type_hints(kind)
        if part not in hints:
            raise _unknown(part, hints, ".".join([*path[:depth], ""]).lstrip("."), where)
        kind = hints[part]
    _value(kind, value, where, ".".join(path))
    return value


def _unknown(key: str, hints: Mapping[str, Any], prefix: str, where: str) -> ConfigError:
    near = difflib.get_close_matches(key, hints, 1, 0.5)
    advice = (
        f"Did you mean {prefix + near[0]!r}?"
        if near
        else f"Valid keys: {', '.join(prefix + name for name in hints)}."
    )
    return ConfigError("a known key", repr(prefix + key), where, advice)


def dump(config: Any) -> str:
    """The whole tree as YAML, every key spelled out."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items()}
        return list(value) if isinstance(value, tuple) else value

    return yaml.safe_dump(
        plain(dataclasses.asdict(config)), sort_keys=False, default_flow_style=None
    )


def _set(tree: dict[str, Any], path: Sequence[str], value: Any, setting: str) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ConfigError("a section", f"a value at {part!r}", f"--set {setting}")
    tree[path[-1]] = value


def kind_of(text: str, where: str) -> str:
    """What a configuration is of: its `kind`, `image` when it does not say."""
    return str(_tree(text, where).get("kind", "image"))


def build(cls: type, tree: Any, where: str, prefix: str = "") -> Any:
    """A dataclass from a tree.

    Raises:
        ConfigError: An unknown key (the nearest valid one is named), a missing one, or a value of
            the wrong type.
    """
    if not isinstance(tree, dict):
        raise ConfigError(f"a section with keys at {prefix[:-1]!r}", repr(tree), where)
    hints = typing.get_type_hints(cls)
    for key in tree:
        if key not in hints:
            raise _unknown(str(key), hints, prefix, where)
    values = {}
    for spec in dataclasses.fields(cls):
        key = prefix + spec.name
        if spec.name in tree:
            values[spec.name] = _value(hints[spec.name], tree[spec.name], where, key)
        elif spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
            raise ConfigError(
                f"a value for {key!r}", "none", where, "Set it in the file or with --set."
            )
    return cls(**values)


def _value(kind: Any, value: Any, where: str, key: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return build(typing.cast(type, kind), value, where, key + ".")
    wrong = ConfigError(f"{key} to be {_name(kind)}", f"{value!r} ({type(value).__name__})", where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _value(arguments[0], value, where, key)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise wrong
        if arguments[-1] is Ellipsis:
            return tuple(_value(arguments[0], item, where, key) for item in value)
        if len(value) != len(arguments):
            raise wrong
        return tuple(_value(a, v, where, key) for a, v in zip(arguments, value, strict=True))
    if isinstance(value, bool) != (kind is bool):
        raise wrong
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
        try:
            value = float(value)
        except ValueError:
            raise wrong from None
    if kind is float and isinstance(value, int):
        return float(value)
    if not isinstance(value, kind):
        raise wrong
    return value


def _name(kind: Any) -> str:
    if typing.get_origin(kind) is tuple:
        arguments = typing.get_args(kind)
        return (
            f"a list of {_name(arguments[0])}"
            if arguments[-1] is Ellipsis
            else f"a list of {len(arguments)} {_name(arguments[0])}"
        )
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return names.get(kind, str(kind))


def choose(key: str, value: Any, choices: Sequence[str], where: str) -> None:
    """Refuse what is not among the choices, naming the nearest."""
    if value not in choices:
        near = difflib.get_close_matches(str(value), choices, 1, 0.5)
        raise ConfigError(
            f"{key} to be one of {', '.join(choices)}", repr(value), where,
            f"Did you mean {near[0]!r}?" if near else None,
        )  # fmt: skip


def at_least_one(numbers: Mapping[str, int], where: str) -> None:
    """Refuse numbers below 1, naming the key."""
    for key, number in numbers.items():
        if number < 1:
            raise ConfigError(f"{key} of at least 1", str(number), where)
