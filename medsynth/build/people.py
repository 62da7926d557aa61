"""Who a run was trained on. Needs no networks, so that a mistake is answered at once."""

from collections.abc import Iterable
from pathlib import Path

from medsynth import box
from medsynth import config as configs
from medsynth.errors import DataError
from medsynth.io import cohort as cohorts
from medsynth.io.files import read_text
from medsynth.io.sidecar import read_json

BEGINNING = "init.json"
"""Stands in a run that began with another model's weights: which, and whom that one had seen."""

TRAINED_ON = "subjects.json"
"""Stands in every run: the people that it is trained on, whatever becomes of its cohort's file."""


def training_subjects(run: Path) -> set[str]:
    """The people that a run was trained on, as it wrote down when it began (else as its cohort
    says), and those of the model that it began with; nobody for a name in the box.

    Raises:
        UsageError: The run has no configuration.
        DataError: Its cohort is not there any more, or it began with a model of which nobody knows
            whom it has seen.
    """
    if box.named(run):
        return set()
    file = run / "config.yaml"
    text = read_text(file, "the configuration of a run")
    if (run / TRAINED_ON).exists():
        own = set(read_json(run / TRAINED_ON)["subjects"])
    else:
        cohort = Path(configs.parse(text, str(file)).data.cohort)
        own = {case.subject for case in cohorts.read(cohort).part("training")}
    if not (run / BEGINNING).exists():
        return own
    before = read_json(run / BEGINNING)["subjects"]
    if before is None:
        raise DataError(
            "a run that began with a model of known people",
            "one that began with a model file alone",
            run,
            "Begin with the run folder (`--init RUN`), which says whom it was trained on.",
        )
    return own | set(before)


def require_known(run: Path, subjects: Iterable[str], cohort: str) -> None:
    """Refuse to go on with a run on people whom it was not begun with: nobody would know any more
    whom its model has seen.

    Args:
        run: The run.
        subjects: Whom it would be trained on.
        cohort: Where they come from, for the message.

    Raises:
        DataError: Some of them are new to the run.
    """
    if not (run / TRAINED_ON).exists():
        return
    new = sorted(set(subjects) - set(read_json(run / TRAINED_ON)["subjects"]))
    if new:
        more = f" and {len(new) - 3} more" if len(new) > 3 else ""
        raise DataError(
            f"the people that {run} was begun with",
            f"others: {', '.join(new[:3])}{more}",
            cohort,
            f"Go on as it was begun (`medsynth train --resume {run}`), or begin a run with its "
            f"weights on other people (`--init {run}`).",
        )


def seen_before(model: str) -> list[str] | None:
    """Whom a model that a run begins with has seen; None for a file that does not say."""
    if box.named(model):
        return []
    if Path(model).is_dir():
        return sorted(training_subjects(Path(model)))
    return [] if Path(model).parent == box.FOLDER else None
