"""Cohorts, rows and models as a user gives them: what cannot be used is refused at once.

Knows no networks: all of this is answered within a second, before anything heavy is imported.
"""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from medsynth.errors import DataError

if TYPE_CHECKING:
    from medsynth.core.cohort import Cohort

APART = "Split by subject: `medsynth index … --split training=0.8,test=0.2`."


def model(path: Path) -> Path:
    """The file of a model: of a run, named itself, or in the box; says so when a local path stands
    before the box.

    Raises:
        UsageError: There is none.
    """
    from medsynth import box
    from medsynth.commands import console

    file = box.model_file(path)
    if box.hidden(path):
        console.say(f"{path}: the one in this folder, not the model of that name in the box")
    return file


def real(path: Path, option: str = "--real") -> "Cohort":
    """A cohort of real cases, or of phantoms in their place.

    Raises:
        DataError: None there, without scans, or made by a generator.
    """
    from medsynth.evaluation import origin
    from medsynth.io import cohort as cohorts

    cohort = cohorts.read(path)
    _require_scans(cohort, option, path, "Complete the cases, or leave them out.")
    origin.require_real(cohort, option)
    return cohort


def synthetic(path: Path, option: str = "--synthetic") -> "Cohort":
    """A generated cohort.

    Raises:
        DataError: None there, or label maps without scans.
    """
    from medsynth.io import cohort as cohorts

    cohort = cohorts.read(path)
    todo = f"Make scans for its label maps: `medsynth generate RUN {path} -o synthetic`."
    _require_scans(cohort, option, path, todo)
    return cohort


def real_rows(path: Path, option: str) -> None:
    """Refuse rows or codes that a model made where people's belong; phantoms may stand in.

    Raises:
        DataError: `PATH.json` says `"synthetic": true` and not that they are phantoms.
    """
    from medsynth.commands.records import sidecar
    from medsynth.evaluation import origin
    from medsynth.io.sidecar import read_json

    beside = sidecar(path)
    story = read_json(beside) if beside.exists() else {}
    if story.get("synthetic") and story.get("made_by") != origin.MADE_BY_PHYSICS:
        raise DataError(
            f"real rows (or phantoms) for {option}",
            f"rows that a model made, says {beside.name}", path,
            "Synthetic rows cannot stand for people: every figure would look perfect. Give the "
            "rows that the model was fitted on as --real, and others of real people as --held-out.",
        )  # fmt: skip


def refuse_twice(files: Mapping[str, Path | None]) -> None:
    """Each side of a comparison needs a file of its own.

    Args:
        files: Option → its file, by whatever path or link.

    Raises:
        DataError: Two options name the same one.
    """
    here = [(option, f) for option, f in files.items() if f is not None and f.exists()]
    for (one, path), (other, again) in combinations(here, 2):
        if path.samefile(again):
            raise DataError(
                f"different files for {one} and {other}", "the same one twice", again,
                "Rows agree with themselves: give the rows that the model was fitted on as "
                "--real, what it made as --synthetic, and real rows it never saw as --held-out.",
            )  # fmt: skip


def _require_scans(cohort: "Cohort", option: str, path: Path, todo: str) -> None:
    if not len(cohort):
        raise DataError(f"cases in {option}", "none", path)
    bare = [case.name for case in cohort if not case.images]
    if bare:
        found = f"label maps alone ({len(bare)} of {len(cohort)} cases, {bare[0]} for one)"
        raise DataError(f"cases with scans for {option}", found, path, todo)


def refuse_mixed(members: "Cohort", others: "Cohort", model: Path | None) -> None:
    """Members must be whom the generator was trained on, and nobody else.

    Raises:
        DataError: Somebody is on both sides, or not on the side where the model has them.
    """
    from medsynth.build import people

    inside, outside = ({case.subject for case in side} for side in (members, others))
    both = sorted(inside & outside)
    if both:
        found = f"{', '.join(both[:5])} in both"
        raise DataError("held-out people who are no members", found, None, APART)
    if model is None or not (model / "config.yaml").exists():
        return  # the box has seen nobody: everybody may be on either side
    trained = people.training_subjects(model)
    strange, seen = sorted(inside - trained), sorted(outside & trained)
    if strange or seen:
        found = f"{', '.join((strange or seen)[:5])}, whom it has {'not ' if strange else ''}seen"
        raise DataError(
            "members that --model was trained on and held-out people that it was not", found, model,
            "Give the cohort that the run was trained on as --real.",
        )  # fmt: skip
