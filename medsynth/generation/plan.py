"""What to generate: one job per scan, shared out among shards, the finished ones left out.

Knows names and keys; opens no file beyond looking whether a sidecar stands.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from medsynth.core.cohort import Case, Cohort
from medsynth.core.random import Key
from medsynth.errors import UsageError


@dataclass(frozen=True)
class Job:
    """One scan to make.

    Args:
        name: Name of the generated case.
        parent: Name of the case whose label map conditions it.
        labels: File of that label map, *brain* scheme; None when the case has only tumour
            labels, or none.
        subject: The person behind the label map: splits respect it.
        key: Style, noise and shading.
        guessed: Whether the person is only what the label map's file name says.
        same_style: Whether other label maps are given the same style, noise and shading.
    """

    name: str
    parent: str
    labels: Path | None
    subject: str
    key: Key
    guessed: bool = False
    same_style: bool = False


@dataclass(frozen=True)
class Shard:
    """One of several processes that share a plan.

    Args:
        index: Which one, from 0.
        count: How many.
    """

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """`"0/8"` … `"7/8"`.

        Raises:
            UsageError: Anything else.
        """
        index, slash, count = text.partition("/")
        if not (slash and index.isdigit() and count.isdigit() and int(index) < int(count)):
            raise UsageError(
                "--shard INDEX/COUNT with INDEX below COUNT",
                repr(text),
                None,
                "For example --shard 0/8 to --shard 7/8.",
            )
        return cls(int(index), int(count))


def plan(
    cohort: Cohort,
    per_case: int,
    seed: int,
    guessed: Collection[str] = (),
    *,
    same_style: bool = False,
) -> list[Job]:
    """All scans to make, in the cohort's order.

    Args:
        cohort: The cases.
        per_case: Scans per label map.
        seed: Root of all keys; a job's key depends on nothing else but its name and number.
        guessed: Names of cases whose person is only what a file name says.
        same_style: Leave the name out of the key, so that scans of label maps with one outline
            differ by what the maps show alone.
    """
    named = [() if same_style else (case.name,) for case in cohort]
    return [
        Job(
            _name(case, index, per_case),
            case.name,
            case.brain,
            case.subject,
            Key(seed, ("generate", *name, index)),
            case.name in guessed,
            same_style,
        )
        for case, name in zip(cohort, named, strict=True)
        for index in range(per_case)
    ]


def share(jobs: Sequence[Job], shard: Shard) -> list[Job]:
    """The jobs of one shard."""
    return list(jobs[shard.index :: shard.count])


def _name(case: Case, index: int, per_case: int) -> str:
    return case.name if per_case == 1 else f"{case.name}-s{index:02d}"
