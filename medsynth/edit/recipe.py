"""Recipes: lists of edits, with numbers or ranges, recorded so that they can be replayed.

A recipe is data; `Recipe.apply` draws what is a range, does the steps, checks each and records
what was drawn. Replaying a record gives the same label map to the voxel. Opens no file.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from medsynth.core.random import Key
from medsynth.core.volume import LabelMap
from medsynth.edit import checks, geometry, operations
from medsynth.errors import ConfigError, EditError

TRIES = 20
"""Random steps that do not fit (out of the brain, across the midline) are drawn again."""

ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "mirror": (),
    "scale": ("volume", "diameter"),
    "shift": ("x_mm", "y_mm", "z_mm", "distance_mm"),
    "rotate": ("z_deg", "y_deg", "x_deg"),
    "grow": ("name", "margin_mm", "within"),
    "shrink": ("name", "margin_mm"),
    "deform": ("amplitude_mm", "smoothness_mm", "seed"),
    "remove": (),
    "relabel": ("source", "target"),
    "implant": (),
}
"""Operations and their arguments, the first of which may be given without its name."""

NAMES = ("name", "within", "source", "target")


@dataclass(frozen=True)
class Step:
    """One edit.

    Args:
        operation: A name of `ARGUMENTS`.
        arguments: Numbers, names, or ranges `(low, high)`.
        probability: How often the step is done at all.
    """

    operation: str
    arguments: Mapping[str, Any]
    probability: float = 1.0

    @property
    def fixed(self) -> bool:
        """Whether nothing is left to chance."""
        drawn = any(isinstance(v, tuple) for v in self.arguments.values())
        return (
            not drawn
            and self.probability == 1
            and "distance_mm" not in self.arguments
            and not (self.operation == "deform" and "seed" not in self.arguments)
        )

    def draw(self, key: Key) -> "Step":
        """The same step with every range replaced by a number."""
        rng = key.numpy()
        given = {
            k: float(rng.uniform(*v)) if isinstance(v, tuple) else v
            for k, v in self.arguments.items()
        }
        if "distance_mm" in given:
            way = rng.standard_normal(3)
            way *= given.pop("distance_mm") / np.linalg.norm(way)
            given |= dict(zip(("x_mm", "y_mm", "z_mm"), map(float, way), strict=True))
        if self.operation == "deform" and "seed" not in given:
            given["seed"] = int(rng.integers(2**31))
        return Step(
            self.operation,
            {k: round(v, 6) if isinstance(v, float) else v for k, v in given.items()},
        )

    def apply(self, labels: LabelMap, onto: LabelMap | None) -> LabelMap:
        """Do a step that leaves nothing to chance.

        Raises:
            EditError: It cannot be done on this map.
            LabelError: It names a structure that the scheme does not have.
        """
        a = self.arguments
        match self.operation:
            case "mirror":
                return operations.mirror(labels)
            case "scale":
                return operations.scale(labels, a.get("volume"), a.get("diameter"))
            case "shift":
                return operations.shift(labels, *(a.get(k, 0.0) for k in ("x_mm", "y_mm", "z_mm")))
            case "rotate":
                return operations.rotate(
                    labels, *(a.get(k, 0.0) for k in ("x_deg", "y_deg", "z_deg"))
                )
            case "grow":
                return operations.grow(labels, a["name"], a["margin_mm"], a.get("within"))
            case "shrink":
                return operations.shrink(labels, a["name"], a["margin_mm"])
            case "deform":
                return operations.deform(
                    labels, a["amplitude_mm"], a.get("smoothness_mm", 12.0), int(a["seed"])
                )
            case "remove":
                return operations.remove(labels)
            case "relabel":
                return operations.relabel(labels, a["source"], a["target"])
        if onto is None:
            raise EditError(
                "a brain to implant into", "none", "implant", "Give one with --onto HEALTHY_LABEL."
            )
        return operations.implant(labels, onto)


@dataclass(frozen=True, eq=False)
class Edited:
    """What came out.

    Args:
        labels: The edited map.
        record: One entry per step that was done: operation, arguments as drawn, measurements.
    """

    labels: LabelMap
    record: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Recipe:
    """Steps, done in order."""

    steps: tuple[Step, ...]

    def apply(self, labels: LabelMap, key: Key, onto: LabelMap | None = None) -> Edited:
        """Do all steps, check each, record what was drawn.

        Args:
            labels: The map to edit.
            key: Source of everything random; a recipe without ranges does not use it.
            onto: The brain for `implant`.

        Raises:
            EditError: A step cannot be done or its outcome is not plausible; a random step only
                after 20 draws.
        """
        record = []
        for index, step in enumerate(self.steps):
            branch = key.fold("step", index)
            if branch.fold("whether").numpy().random() >= step.probability:
                continue
            drawn, after, measured = _done(step, labels, branch, onto)
            record.append(
                {"operation": drawn.operation, "arguments": dict(drawn.arguments), **measured}
            )
            labels = after
        return Edited(labels, tuple(record))

    def to_json(self) -> list[dict[str, Any]]:
        """The steps as JSON has them: what was asked for, ranges not drawn."""
        return [
            {
                "operation": step.operation,
                "arguments": {
                    k: list(v) if isinstance(v, tuple) else v for k, v in step.arguments.items()
                },
                "probability": step.probability,
            }
            for step in self.steps
        ]

    @classmethod
    def from_record(cls, record: Sequence[Mapping[str, Any]]) -> "Recipe":
        """The recipe that replays a record."""
        return cls(tuple(Step(r["operation"], dict(r["arguments"])) for r in record))

    @classmethod
    def parse(cls, text: str, where: str) -> "Recipe":
        """A recipe from YAML, a list of `{operation: arguments}` under `steps`; or the sidecar of
        an edited or generated case, whose edits are replayed as they were drawn.

        Raises:
            ConfigError: Not YAML, an unknown operation or argument, a value of the wrong kind.

        Example:
            >>> Recipe.parse("steps: [{scale: {volume: [0.8, 1.3]}}, mirror]", "r.yaml").steps[1]
            Step(operation='mirror', arguments={}, probability=1.0)
        """
        try:
            tree = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError("YAML", str(error), where) from error
        if isinstance(tree, dict) and isinstance(tree.get("edits"), list):
            if tree.get("changed_by_hand"):
                raise ConfigError(
                    "edits that give the label map again",
                    "those of a map that somebody changed by hand",
                    where,
                    "Take the label map itself.",
                )
            return cls.from_record(tree["edits"])
        if not isinstance(tree, dict) or not isinstance(tree.get("steps"), list):
            raise ConfigError("a list under the key 'steps'", repr(tree)[:60], where)
        return cls(tuple(_from_yaml(entry, where) for entry in tree["steps"]))


def parse_step(text: str) -> Step:
    """A step from the command line.

    Args:
        text: `NAME`, `NAME:VALUE` or `NAME:KEY=VALUE,KEY=VALUE`, for example `mirror`,
            `scale:1.16` (the volume), `scale:diameter=1.05`, `shift:10,0,0` (mm right, front,
            up), `rotate:15` (about the upward axis), `grow:ET=3`, `relabel:ET=NCR`.

    Raises:
        ConfigError: Unknown names (the nearest valid one is given) or values.

    Example:
        >>> parse_step("scale:1.16").arguments
        {'volume': 1.16}
    """
    name, _, rest = text.partition(":")
    known = _known(name.strip(), "--op")
    parts = [part for part in rest.split(",") if part]
    given: dict[str, Any] = {}
    for index, part in enumerate(parts):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            if index >= len(known):
                raise ConfigError(f"at most {len(known)} values", repr(text), "--op")
            given[known[index]] = yaml.safe_load(key)
        elif key not in known and known[:2] in (("name", "margin_mm"), ("source", "target")):
            given |= {known[0]: key, known[1]: yaml.safe_load(value)}
        else:
            given[key] = yaml.safe_load(value)
    return _step(name.strip(), given, 1.0, "--op")


def _done(
    step: Step, labels: LabelMap, key: Key, onto: LabelMap | None
) -> tuple[Step, LabelMap, Mapping[str, Any]]:
    failure: EditError | None = None
    for attempt in range(1 if step.fixed else TRIES):
        drawn = step.draw(key.fold("try", attempt))
        try:
            after = drawn.apply(labels, onto)
            if "distance_mm" in step.arguments:
                _same_side(labels, after)
            return drawn, after, _checked(drawn, labels, after)
        except EditError as error:
            failure = error
    raise failure or EditError("a step", "none")


def _checked(step: Step, before: LabelMap, after: LabelMap) -> Mapping[str, Any]:
    factor: float | None = None
    if step.operation in ("mirror", "shift", "rotate", "deform", "implant", "relabel"):
        factor = 1.0
    elif step.operation == "scale":
        factor = step.arguments.get("volume") or float(step.arguments["diameter"]) ** 3
    lost: tuple[str, ...] = ()
    if step.operation == "remove":
        lost, factor = before.scheme.members("lesion"), 0.0
    elif step.operation == "relabel":
        lost = (step.arguments["source"],)
    nested = step.operation in ("mirror", "shift", "rotate", "scale", "deform", "implant")
    return checks.check(before, after, step.operation, factor=factor, lost_ok=lost, nested=nested)


def _same_side(before: LabelMap, after: LabelMap) -> None:
    """Refuse a random shift that takes the tumour's centre across the midline."""
    plane = geometry.midline_mm(before)
    sides = [geometry.centre_mm(m, geometry.tumour_mask(m))[0] - plane for m in (before, after)]
    if sides[0] * sides[1] < 0:
        raise EditError(
            "a tumour that stays in its hemisphere", "one that crosses the midline", "shift"
        )


def _from_yaml(entry: Any, where: str) -> Step:
    if isinstance(entry, str):
        return _step(entry, {}, 1.0, where)
    if not isinstance(entry, dict) or len(set(entry) - {"probability"}) != 1:
        raise ConfigError(
            "one operation per entry, for example `- scale: {volume: 1.16}`", repr(entry), where
        )
    probability = entry.get("probability", 1.0)
    if not isinstance(probability, int | float) or not 0 <= probability <= 1:
        raise ConfigError("a probability from 0 to 1", repr(probability), where)
    ((name, given),) = ((k, v) for k, v in entry.items() if k != "probability")
    known = _known(name, where)
    if given is not None and not isinstance(given, dict):
        given = {known[0]: given} if known else {"": given}
    return _step(name, given or {}, float(probability), where)


def _known(name: str, where: str) -> tuple[str, ...]:
    if name not in ARGUMENTS:
        near = difflib.get_close_matches(name, ARGUMENTS, 1, 0.4)
        raise ConfigError(
            f"an operation ({', '.join(ARGUMENTS)})",
            repr(name),
            where,
            f"Did you mean {near[0]!r}?" if near else None,
        )
    return ARGUMENTS[name]


def _step(name: str, given: Mapping[str, Any], probability: float, where: str) -> Step:
    known = _known(name, where)
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.4)
            raise ConfigError(
                f"an argument of {name} ({', '.join(known) or 'none'})",
                repr(key),
                where,
                f"Did you mean {near[0]!r}?" if near else None,
            )
        values[key] = _value(name, key, value, where)
    needed = {
        "scale": 1,
        "grow": 2,
        "shrink": 2,
        "relabel": 2,
        "deform": 1,
        "shift": 1,
        "rotate": 1,
    }.get(name, 0)
    if len(values) < needed or (name == "scale" and len(values) != 1):
        raise ConfigError(
            f"{name} with {' and '.join(known[: max(needed, 1)])}",
            f"only {', '.join(values) or 'its name'}",
            where,
        )
    return Step(name, values, probability)


def _value(name: str, key: str, value: Any, where: str) -> Any:
    if key in NAMES:
        if not isinstance(value, str):
            raise ConfigError(f"a structure as {name}.{key}", repr(value), where)
        return value
    if isinstance(value, list):
        if (
            len(value) != 2
            or not all(isinstance(v, int | float) for v in value)
            or value[0] > value[1]
        ):
            raise ConfigError(f"{name}.{key} as a number or [low, high]", repr(value), where)
        return float(value[0]), float(value[1])
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{name}.{key} as a number or [low, high]", repr(value), where)
    return int(value) if key == "seed" else float(value)
