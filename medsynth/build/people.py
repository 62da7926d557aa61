"""Who a run was trained on. Needs no networks, so that a mistake is answered at once."""

from pathlib import Path

from medsynth import box
from medsynth import config as configs
from medsynth.errors import DataError
from medsynth.io import cohort as cohorts
from medsynth.io.files import read_text
from medsynth.io.sidecar import read_json

BEGINNING = "init.json"
"""Stands in a run that began with another model's weights: which, and whom that one had seen."""


def training_subjects(run: Path) -> set[str]:
    """The people that a run was trained on, as its cohort says, and those of the model that it
    began with; nobody for a name in the box.

    Raises:
        UsageError: The run has no configuration.
        DataError: Its cohort is not there any more, or it began with a model of which nobody knows
            whom it has seen.
    """
    if box.named(run):
        return set()
    file = run / "config.yaml"
    config = configs.parse(read_text(file, "the configuration of a run"), str(file))
    own = {case.subject for case in cohorts.read(Path(config.data.cohort)).part("training")}
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


def seen_before(model: str) -> list[str] | None:
    """Whom a model that a run begins with has seen; None for a file that does not say."""
    if box.named(model):
        return []
    if Path(model).is_dir():
        return sorted(training_subjects(Path(model)))
    return [] if Path(model).parent == box.FOLDER else None
