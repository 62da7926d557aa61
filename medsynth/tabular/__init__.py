"""Records: `fit(frame_or_csr).sample(10_000)`, pandas in and pandas out, CSR in and CSR out."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from medsynth.config.tabular import with_options
from medsynth.core.codes import Codes
from medsynth.core.frames import from_frame, to_frame
from medsynth.core.random import Key
from medsynth.core.table import RANGE, Schema, Table
from medsynth.errors import ConfigError, DataError
from medsynth.tabular.fitting import Fitting
from medsynth.tabular.synthesizer import CodesSynthesizer, TableSynthesizer, load
from medsynth.training.world import World

__all__ = ["CodesSynthesizer", "Fitted", "TableSynthesizer", "fit", "fit_records", "load"]


class Fitted:
    """A fitted frame or matrix, `model`; frames, `Codes` or CSR matrices come out."""

    def __init__(self, model: TableSynthesizer | CodesSynthesizer, *, bare: bool) -> None:
        self.model, self._bare = model, bare

    def save(self, path: Path | str) -> None:
        """Write `model.safetensors`, or a file of another name."""
        self.model.save(Path(path))

    @classmethod
    def load(cls, path: Path | str) -> "Fitted":
        """A model from a run folder or a file.

        Raises:
            UsageError: No model there.
            ModelError: Not a model of records of this version.
        """
        return cls(load(path), bare=False)

    def sample(self, rows: int, seed: int = 0, where: Mapping[str, Any] | None = None) -> Any:
        """New records, of the type that was fitted: a frame with its dtypes, `Codes`, or CSR.

        Args:
            rows: How many.
            seed: The same seed gives the same records.
            where: Column → value that all rows have, None for a missing one where there is one way
                to be missing, `"60..80"` or `(60, 80)` for a range of numbers; code → 1 or 0.

        Raises:
            ConfigError: No such column or value.
            DataError: The model never makes such a record.
        """
        where = {name: self._text(name, value) for name, value in (where or {}).items()}
        if isinstance(self.model, TableSynthesizer):
            return to_frame(self.model.sample(rows, Key(seed, ("table",)), where))
        made = self.model.sample(rows, Key(seed, ("codes",)), where)
        return made.matrix if self._bare else made

    def _text(self, name: str, value: Any) -> str:
        """A value as it is written; missing ones by the column's only mark."""
        if isinstance(value, tuple) and len(value) == 2:
            return RANGE.join("" if end is None else self._text(name, end) for end in value)
        if not isinstance(self.model, TableSynthesizer) or not (value is None or value != value):
            return str(value).removesuffix(" 00:00:00")  # a day, as pandas has it
        marks = self.model.schema.column(name).marks
        if len(marks) != 1:
            found = "none" if not marks else ", ".join(map(repr, marks))
            raise ConfigError("one way to be missing", found, name, "Name the one you mean.")
        return marks[0]


def fit(
    records: Any,
    *,
    schema: Schema | None = None,
    seed: int = 0,
    shown: Callable[[Iterator[Any], int], Iterator[Any]] = lambda steps, total: steps,
    **options: Any,
) -> Fitted:
    """Learn how records look.

    Args:
        records: A frame of at least 50 rows, any dtypes; or codes of subjects, as `Codes` or as a
            scipy CSR matrix of counts.
        schema: Declared columns of a frame; others are inferred.
        seed: The same seed gives the same model.
        shown: Shows progress over steps.
        options: Keys of the configuration by their own names: `kind`, `epochs`, `width`,
            `epsilon`, `copies` and others, see `config.tabular`.

    Raises:
        DataError: See `core.frames.from_frame`.
        ConfigError: No such option, or a value that does not fit.

    Example:
        >>> import numpy as np, pandas as pd
        >>> rng = np.random.default_rng(0)
        >>> sexes, ages = rng.choice(["F", "M"], 200), rng.integers(40, 80, 200)
        >>> frame = pd.DataFrame({"sex": sexes, "age": ages})
        >>> fit(frame, epochs=1).sample(3).dtypes.equals(frame.dtypes)
        True
    """
    import pandas as pd
    from scipy import sparse

    bare = sparse.issparse(records)
    if bare:
        names = tuple(f"code_{index:04d}" for index in range(records.shape[1]))
        records = Codes(records, names)
    elif not isinstance(records, Codes):
        if not isinstance(records, pd.DataFrame):
            raise DataError(
                "a pandas DataFrame, a scipy CSR matrix or Codes", type(records).__name__, None,
                "For example pandas.DataFrame(array, columns=[…]).",
            )  # fmt: skip
        records = from_frame(records, schema)
    return Fitted(fit_records(records, schema=schema, seed=seed, shown=shown, **options), bare=bare)


def fit_records(
    records: Table | Codes,
    *,
    schema: Schema | None = None,
    seed: int = 0,
    shown: Callable[[Iterator[Any], int], Iterator[Any]] = lambda steps, total: steps,
    **options: Any,
) -> TableSynthesizer | CodesSynthesizer:
    """Learn how the rows of a table, or the codes of subjects, look; arguments as for `fit`."""
    config = with_options(seed, options)
    fitting = Fitting(records, config, World.from_environment(), declared=schema)
    for _ in shown(fitting.play(), fitting.steps):
        pass
    return fitting.synthesizer()
