"""Models of records: configuration → records, fitting, run."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medsynth import config as configs
from medsynth import show
from medsynth.build.run import Pace, Run
from medsynth.config import Tabular
from medsynth.core.codes import Codes
from medsynth.core.frames import breaking, memorable, stand_ins
from medsynth.core.paths import write_text
from medsynth.core.random import Key
from medsynth.core.table import Column, Schema, Table
from medsynth.io import tables
from medsynth.tabular import CodesSynthesizer, TableSynthesizer
from medsynth.tabular.fitting import Fitting
from medsynth.tabular.material import RowMaterial
from medsynth.training import checkpoint
from medsynth.training.game import Metrics
from medsynth.training.world import World

PREVIEWED = 500
"""Records that are made for a preview."""


def records(config: Tabular) -> tuple[Table | Codes, Schema | None]:
    """The records of a configuration, and the schema that was declared for them.

    Raises:
        DataError: See `medsynth.io.tables`.
    """
    data, path = config.data, Path(config.data.table)
    if path.suffix == ".npz" or data.subject is not None:
        return tables.read_codes(path, data.subject, data.code, data.digits)[0], None
    declared = tables.read_schema(Path(data.schema)) if data.schema else None
    return tables.read(path, declared), declared


class TabularRun(Run):
    """A run of a model of records.

    Args:
        folder: `RUN`.
        fitting: At the step to go on from.
        warnings: What a person should know of the records.
        inferred: Columns that nobody declared, or not whole.
    """

    def __init__(
        self,
        folder: Path,
        fitting: Fitting,
        warnings: Sequence[str] = (),
        inferred: Sequence[Column] = (),
    ) -> None:
        how, batch = fitting.config.train, fitting.trainer.batch
        pace = Pace(fitting.steps, batch, how.log_every, how.save_every, how.preview_every)
        size = f"{fitting.material.records:,} records, {fitting.config.model.kind}"
        super().__init__(folder, fitting.trainer, pace, size, warnings)
        self.fitting, self.inferred = fitting, tuple(inferred)

    @classmethod
    def prepare(cls, config: Tabular, folder: Path, world: World, *, resume: bool) -> "TabularRun":
        """Read the records and set everything up.

        Args:
            config: The configuration.
            folder: `RUN`; `config.yaml` is written there, with everything decided.
            world: Ranks and device.
            resume: Go on from `last.pt`.

        Raises:
            DataError: The records are broken, or too few.
            ConfigError: The configuration does not fit them.
        """
        found, declared = records(config)
        warnings = [
            f"{name}: nearly every row has a name of its own, which would be learnt by heart; "
            "declare it an identifier"
            for name in (memorable(found) if isinstance(found, Table) else ())
        ]
        warnings += [
            f"{name}: is {value:g} a value, or missing? If so, declare it: marks: ['{value:g}']"
            for name, value in (stand_ins(found) if isinstance(found, Table) else {}).items()
        ]
        warnings += [
            f"{rows:,} real rows break the rule {told}: no such row will be made"
            for told, rows in (breaking(found) if isinstance(found, Table) else [])
        ]
        secret = None
        if resume:
            secret = checkpoint.read(folder / "last.pt", world.device).get("secret")
        fitting = Fitting(found, config, world, declared=declared, secret=secret)
        if resume:
            fitting.load_state_dict(checkpoint.load(folder / "last.pt", fitting.trainer))
        if world.leads:  # only now: a configuration that does not fit leaves the run as it was
            data = fitting.config.data
            table = str(Path(data.table).resolve())
            schema = str(Path(data.schema).resolve()) if data.schema else None
            told = replace(fitting.config, data=replace(data, table=table, schema=schema))
            write_text(folder / "config.yaml", configs.dump(told))
            if isinstance(found, Table):
                tables.write_schema(folder / "schema.yaml", found.schema)
        told_of = {column.name for column in declared.columns} if declared else set()
        columns = found.schema.columns if isinstance(found, Table) else ()
        inferred = [c for c in columns if c.name not in told_of or c.inferred]
        return cls(folder, fitting, warnings, inferred)

    @property
    def ended(self) -> str | None:
        """See `Run.ended`."""
        return self.fitting.ended

    def play(self) -> Iterator[Metrics]:
        """See `Run.play`."""
        return self.fitting.play()

    def save(self) -> None:
        """See `Run.save`."""
        checkpoint.save(self.folder / "last.pt", self.trainer, self.fitting.state_dict())
        if self.trainer.world.leads:
            self.fitting.synthesizer().save(self.folder / "model.safetensors")

    def preview(self, step: int) -> None:
        """Shares of levels and intervals, or rates of codes: real ones and made ones."""
        if not self.trainer.world.leads or self.fitting.delta is not None:
            return  # real shares would be published without noise
        model = self.fitting.synthesizer()
        sides: dict[str, tuple[np.ndarray, np.ndarray]]
        if isinstance(model, TableSynthesizer):
            assert isinstance(self.fitting.material, RowMaterial)
            made = model.encode(model.sample(PREVIEWED, Key(0, ("preview",))))
            sides = {
                name: (real, np.bincount(made[:, i], minlength=len(real)) / len(made))
                for i, (name, real) in enumerate(
                    zip(model.codec.names, model.layout.shares, strict=True)
                )
            }
        else:
            assert isinstance(model, CodesSynthesizer)
            often = np.argsort(-model.known.rates)[:60]
            rates = model.sample(PREVIEWED, Key(0, ("preview",))).rates
            sides = {"most frequent codes": (model.known.rates[often], rates[often])}
        picture = self.folder / "previews" / f"step-{step:06d}.png"
        show.save(show.shares(sides), picture, dpi=80)
