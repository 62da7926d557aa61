"""Who a run was trained on. Needs no networks, so that a mistake is answered at once."""

from pathlib import Path

from medsynth import box
from medsynth import config as configs
from medsynth.io import cohort as cohorts
from medsynth.io.files import read_text


def training_subjects(run: Path) -> set[str]:
    """The people that a run was trained on, as its cohort says; nobody for a name in the box.

    Raises:
        UsageError: The run has no configuration.
        DataError: Its cohort is not there any more.
    """
    if box.named(run):
        return set()
    file = run / "config.yaml"
    config = configs.parse(read_text(file, "the configuration of a run"), str(file))
    return {case.subject for case in cohorts.read(Path(config.data.cohort)).part("training")}
