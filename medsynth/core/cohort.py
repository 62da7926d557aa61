"""Cases and cohorts: which files belong to whom.

`Cohort.to_json` gives a dictionary that MONAI's `load_decathlon_datalist` understands; writing
and reading it is the business of `medsynth.io.cohort`. Opens no file.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from medsynth.core.random import Key
from medsynth.errors import DataError

MODALITIES = ("t1n", "t1c", "t2w", "t2f")
"""Canonical names, BraTS 2023: T1, T1 with contrast, T2, FLAIR."""


def _empty() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True)
class Case:
    """One examination of one person: scans and label maps as files.

    Args:
        name: Case name, for example `BraTS-GLI-00042-001`; unique in a cohort.
        subject: The person; time-points of one person share it, and splits respect it.
        images: Modality → file. A 4-D file (Decathlon) is named with its channel: see `channel`.
        label: Tumour label map in the cohort's scheme, or None.
        brain: Tissue and tumour in the *brain* scheme, or None.
        channel: Modality → index into a 4-D file; empty when every file is 3-D.
        covariates: Anything known about the person, for example `{"age": 61}`.
    """

    name: str
    subject: str
    images: Mapping[str, Path]
    label: Path | None = None
    brain: Path | None = None
    channel: Mapping[str, int] = field(default_factory=_empty)
    covariates: Mapping[str, Any] = field(default_factory=_empty)


@dataclass(frozen=True)
class Cohort:
    """A list of cases that share a label scheme.

    Args:
        scheme: Name of the scheme of `Case.label`.
        cases: The cases, in order.
        splits: Case name → `training`, `validation` or `test`; cases not named are `training`.

    Raises:
        DataError: Two cases have the same name, or one subject is in two splits.
    """

    scheme: str
    cases: tuple[Case, ...]
    splits: Mapping[str, str] = field(default_factory=_empty)

    def __post_init__(self) -> None:
        names = [case.name for case in self.cases]
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise DataError("case names that differ", f"{', '.join(twice)} more than once")
        where: dict[str, str] = {}
        for case in self.cases:
            split = self.split_of(case)
            if where.setdefault(case.subject, split) != split:
                raise DataError(
                    "each subject in one split",
                    f"{case.subject} in {where[case.subject]} and in {split}",
                    None,
                    "Split by subject, not by case: two time-points of one person "
                    "must not be on both sides.",
                )

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    def case(self, name: str) -> Case:
        """The case of that name.

        Raises:
            DataError: No such case.
        """
        for case in self.cases:
            if case.name == name:
                return case
        raise DataError("a case of the cohort", repr(name))

    def split_of(self, case: Case) -> str:
        """The split a case belongs to."""
        return self.splits.get(case.name, "training")

    def part(self, split: str) -> "Cohort":
        """The cases of one split."""
        cases = tuple(case for case in self.cases if self.split_of(case) == split)
        return Cohort(self.scheme, cases, {case.name: split for case in cases})

    def split(self, fractions: Mapping[str, float], key: Key) -> "Cohort":
        """Assign splits at random, subject by subject.

        Args:
            fractions: Share of the subjects per split, for example
                `{"training": 0.8, "test": 0.2}`; a split with a share above 0 gets at least one
                subject when there are enough.
            key: Which random assignment.

        Raises:
            DataError: Shares that do not add up to 1.
        """
        if abs(sum(fractions.values()) - 1) > 1e-6 or min(fractions.values()) < 0:
            raise DataError("shares that add up to 1", str(dict(fractions)))
        subjects = sorted({case.subject for case in self.cases})
        order = [subjects[i] for i in key.numpy().permutation(len(subjects))]
        bounds, done, given = {}, 0.0, 0
        for name, share in fractions.items():
            done += share
            end = max(round(done * len(subjects)), given + (share > 0))
            bounds[name], given = order[given:end], end
        of = {subject: name for name, members in bounds.items() for subject in members}
        return Cohort(self.scheme, self.cases, {case.name: of[case.subject] for case in self.cases})

    def to_json(self, relative_to: Path) -> dict[str, Any]:
        """A MONAI datalist: a list of cases per split, paths relative to the JSON file."""
        lists: dict[str, list[dict[str, Any]]] = {"training": [], "validation": [], "test": []}
        for case in self.cases:
            lists.setdefault(self.split_of(case), []).append(_to_item(case, relative_to))
        return {
            "schema": "medsynth-cohort/1",
            "scheme": self.scheme,
            "modalities": list(self.modalities),
            "numTraining": len(lists["training"]),
            **lists,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], base: Path) -> "Cohort":
        """The inverse of `to_json`; `base` is the folder of the JSON file.

        Raises:
            DataError: A key is missing or has the wrong type.
        """
        try:
            cases, splits = [], {}
            for split in ("training", "validation", "test"):
                for item in data.get(split, ()):
                    case = _from_item(item, base)
                    cases.append(case)
                    splits[case.name] = split
            return cls(data["scheme"], tuple(cases), splits)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                "a cohort file as `medsynth index` writes it",
                f"{error!r}",
                base,
                "Run `medsynth index` again.",
            ) from error

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that every case has, in canonical order."""
        common = (
            set.intersection(*(set(case.images) for case in self.cases)) if self.cases else set()
        )
        return (*(m for m in MODALITIES if m in common), *sorted(common - set(MODALITIES)))


def _to_item(case: Case, base: Path) -> dict[str, Any]:
    def relative(path: Path) -> str:
        return Path(os.path.relpath(path, base)).as_posix()

    item: dict[str, Any] = {
        "case": case.name,
        "subject": case.subject,
        "channels": list(case.images),
        "image": [relative(path) for path in case.images.values()],
    }
    if case.label is not None:
        item["label"] = relative(case.label)
    if case.brain is not None:
        item["brain"] = relative(case.brain)
    if case.channel:
        item["channel"] = dict(case.channel)
    if case.covariates:
        item["covariates"] = dict(case.covariates)
    return item


def _from_item(item: Mapping[str, Any], base: Path) -> Case:
    def absolute(name: str | None) -> Path | None:
        return None if name is None else base / name

    images: Sequence[str] = item["image"]
    return Case(
        item["case"],
        item["subject"],
        {m: base / name for m, name in zip(item["channels"], images, strict=True)},
        absolute(item.get("label")),
        absolute(item.get("brain")),
        item.get("channel", {}),
        item.get("covariates", {}),
    )
