"""`medsynth train`: from a configuration to a model, of scans or of records."""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsynth.commands import console
from medsynth.errors import DataError, Interrupted, TrainingError, UsageError

if TYPE_CHECKING:
    from medsynth.build.run import Run
    from medsynth.config import Config
    from medsynth.core.table import Column
    from medsynth.training.world import World

MOST_TOLD = 40
"""Columns whose inferred kinds are shown."""


@dataclass(frozen=True)
class Train:
    """Train a model; `torchrun --nproc-per-node N -m medsynth train …` uses N GPUs.

    Args:
        config: YAML file; None when resuming with the run's own.
        out: Folder of the run.
        settings: `key=value` overrides.
        resume: Run to go on with, in place, up to `train.steps`.
        init: Short for `--set train.init=…`, on scans: a run, a model file, or a model in the box
            whose weights the generator starts from.
        epsilon: Short for `--set privacy.epsilon=…`, on records; the noise is found.
        json: Print the answer as JSON.
    """

    config: Path | None
    out: Path | None = None
    settings: tuple[str, ...] = ()
    resume: Path | None = None
    init: str | None = None
    epsilon: float | None = None
    json: bool = False

    def run(self) -> int:
        """Train, or go on; the model is `RUN/model.safetensors`."""
        from medsynth import config as configs
        from medsynth.commands import given
        from medsynth.io import cohort as cohorts
        from medsynth.io.files import read_text

        if self.resume and not (self.resume / "last.pt").exists():
            raise UsageError(
                "a run with last.pt", "none", self.resume, "Start it without --resume."
            )
        if self.resume and self.out and self.out != self.resume:
            raise UsageError("--resume RUN or --out RUN", "two different folders")
        file = self.config or (self.resume / "config.yaml" if self.resume else None)
        if file is None:
            todo = "For example configs/image/brats.yaml."
            raise UsageError("a configuration", "none", None, todo)
        text = read_text(file, "a configuration")
        tabular = configs.kind_of(text, str(file)) == "tabular"
        settings = self.settings
        if self.init is not None:
            if tabular or self.resume:
                wrong = "records" if tabular else "--resume, which has weights already"
                raise UsageError("--init with an image GAN that starts", wrong, file)
            settings = (*settings, f"train.init={self.init}")
        if self.epsilon is not None:
            if not tabular:
                raise UsageError("--epsilon with records", "an image GAN", file)
            settings = (*settings, f"privacy.epsilon={self.epsilon}")
        folder = self.resume or self.out or Path("runs") / file.stem
        if not self.resume and (folder / "last.pt").exists():
            raise DataError(
                "a folder without a run",
                "one with last.pt",
                folder,
                f"Go on with --resume {folder}, or choose another --out.",
            )
        # mistakes are told before PyTorch is imported
        records = configs.parse_tabular(text, str(file), settings) if tabular else None
        config = None if tabular else configs.parse(text, str(file), settings)
        if config:
            cohorts.read(Path(config.data.cohort))
            if config.train.init and not self.resume:
                given.model(Path(config.train.init))

        from medsynth.training.world import World

        world = World.from_environment()
        try:
            if records:
                from medsynth.build.tabular import TabularRun

                run = TabularRun.prepare(records, folder, world, resume=bool(self.resume))
                if world.leads and not self.resume:
                    _tell_kinds(run.inferred, folder / "schema.yaml")
                done = follow(run)
                if world.leads and (exposed := run.fitting.exposed):
                    console.say(exposed)
                if world.leads and run.fitting.delta is not None:
                    console.say(run.trainer.ledger.words(run.fitting.delta))
            elif config:
                done = train(config, folder, world, resume=bool(self.resume))
        finally:
            world.close()
        if self.json and world.leads:
            console.answer(done)
        return 0


def _tell_kinds(columns: "Sequence[Column]", schema: Path) -> None:
    """What columns that nobody declared whole were taken for, and where to correct it."""
    from medsynth.core.frames import why

    if not columns:
        return
    rows = [(column.name, column.kind, why(column)) for column in columns[:MOST_TOLD]]
    console.say(console.table(("column", "taken for", "because of"), rows))
    more = f" and {len(columns) - MOST_TOLD} more" if len(columns) > MOST_TOLD else ""
    console.say(f"→ {schema} has these{more}: correct it, give it back as --set data.schema=FILE")


def train(config: "Config", folder: Path, world: "World", *, resume: bool) -> dict[str, Any]:
    """Train an image GAN in a folder; the demo does the same.

    Args:
        config: Validated configuration.
        folder: The run.
        world: Ranks and device.
        resume: Whether to go on from `last.pt`.

    Returns:
        Steps, seconds, folder and the last metrics.
    """
    from medsynth.build.image import ImageRun

    return follow(ImageRun.prepare(config, folder, world, resume=resume, examples=_prepared))


def follow(run: "Run") -> dict[str, Any]:
    """Train a run to its end: progress, log, checkpoints, gentle stops.

    Returns:
        Steps, seconds, folder and the last metrics.
    """
    world, folder, steps = run.trainer.world, run.folder, run.pace.steps
    trainer = run.trainer
    begun, first = time.monotonic(), trainer.step
    left = max(steps - first, 0)
    if world.leads:
        for words in run.warnings:
            console.say(f"warning: {words}")
        p = trainer.precision
        todo = f"step {first} to {steps}" if left else f"all of its {first} steps are done"
        console.say(
            f"training on {world.size} × {world.device.type} in {p.name} ({p.reason}): "
            f"{run.size}, {todo}"
        )
    last: dict[str, float] = {}
    try:
        with _stop_gently(world) as asked:
            for reading in _shown(_loop(run), left, world.leads):
                last = reading
                if asked and trainer.step < steps:
                    run.save()
                    raise Interrupted(
                        asked[0],
                        f"stopped after step {trainer.step}; "
                        f"go on with: medsynth train --resume {folder}",
                    )
    except TrainingError as error:
        saved = f"{folder / 'last.pt'}" if (folder / "last.pt").exists() else "none yet"
        raise TrainingError(
            error.expected,
            error.found,
            error.where,
            f"The last good checkpoint is {saved}; lower the learning rates or "
            "use train.precision=fp32 and resume.",
        ) from error
    finally:
        run.close()
    seconds = time.monotonic() - begun
    if world.leads:
        console.say(
            f"{trainer.step - first} steps in {seconds:.0f} s "
            f"({(trainer.step - first) * run.pace.batch / max(seconds, 1e-9):.1f} "
            f"cases/s) → {folder / 'model.safetensors'}"
        )
    return {"run": folder, "steps": trainer.step, "seconds": round(seconds, 1), "metrics": last}


@contextmanager
def _stop_gently(world: "World") -> Iterator[list[int]]:
    """Let Ctrl-C and SIGTERM (a cluster's time limit) end the step first; a second one stops hard.

    Several ranks would stop after different steps: they go on from the last checkpoint instead.

    Yields:
        The signals that came so far.
    """
    asked: list[int] = []
    if world.size > 1 or threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        console.say("stopping after this step")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _loop(run: "Run") -> Iterator[dict[str, float]]:
    """Train, log, watch, save and preview; yields the last readings at every step."""
    pace, trainer = run.pace, run.trainer
    reading: dict[str, float] = {}
    for metrics in run.play():
        step = trainer.step
        last = step == pace.steps or run.ended is not None
        run.collect(metrics)
        if step % pace.log_every == 0 or last:
            reading = run.log(step)
            for words in run.watch.read(step, reading):
                console.say(f"warning: {words}")
        if step % pace.save_every == 0 or last:
            run.save()
        if step % pace.preview_every == 0 or last:
            run.preview(step)
        yield reading
    if run.ended and trainer.world.leads:
        console.say(f"ended after step {trainer.step}: {run.ended}")


def _shown(
    items: Iterator[dict[str, float]], total: int, leads: bool
) -> Iterator[dict[str, float]]:
    return console.progress(items, total, "train", "step") if leads else items


def _prepared(items: Iterator[Any], total: int, leads: bool) -> Iterator[Any]:
    return console.progress(items, total, "prepare") if leads else items


def add(verbs: Any) -> None:
    """Tell argparse about the verb."""
    p = verbs.add_parser(
        "train",
        help="train a model of scans or of records from a configuration",
        description=console.summary(Train),
        epilog="Examples: medsynth train configs/image/phantom.yaml --set "
        "data.cohort=cohort/cohort.json --out run;  medsynth train --resume run "
        "--set train.steps=40000;  medsynth train configs/tabular/table.yaml --set "
        "data.table=patients.csv --out records",
    )
    p.add_argument(
        "config", type=Path, nargs="?", metavar="CONFIG",
        help="YAML of kind: image or tabular, e.g. configs/image/brats.yaml",
    )  # fmt: skip
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key, e.g. train.steps=10",
    )
    p.add_argument("--resume", type=Path, metavar="RUN", help="go on with a run, in place")
    p.add_argument(
        "--out", type=Path, metavar="RUN", help="folder of the run (default: runs/<configuration>)"
    )
    p.add_argument(
        "--init", metavar="MODEL",
        help="start from the weights of a run, a model file, or `phantom`, the model in the box",
    )  # fmt: skip
    p.add_argument(
        "--epsilon", type=float, help="differential privacy on records; the noise is found"
    )
    p.add_argument("--json", action="store_true", help="print the answer as JSON")
    p.set_defaults(
        make=lambda a: Train(a.config, a.out, tuple(a.set), a.resume, a.init, a.epsilon, a.json)
    )
