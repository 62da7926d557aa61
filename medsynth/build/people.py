"""Who a run was trained on. Needs no networks, so that a mistake is answered at once."""

from pathlib import Path

from medsynth import config as configs
from medsynth.errors import UsageError
from medsynth.io import cohort as cohorts
from medsynth.io.files import read_text


def require_model(run: Path) -> Path:
    """The model of a run.

    Args:
        run: A run, or its model.safetensors.

    Raises:
        UsageError: There is none.
    """
    file = run / "model.safetensors" if run.is_dir() else run
    if not file.exists():
        raise UsageError(
            "a run with model.safetensors",
            "none" if run.is_dir() else "nothing",
            run,
            "Give the folder that `medsynth train --out RUN` wrote.",
        )
    return file


def training_subjects(run: Path) -> set[str]:
    """The people that a run was trained on, as its cohort says.

    Raises:
        UsageError: The run has no configuration.
        DataError: Its cohort is not there any more.
    """
    file = run / "config.yaml"
    config = configs.parse(read_text(file, "the configuration of a run"), str(file))
    return {case.subject for case in cohorts.read(Path(config.data.cohort)).part("training")}
