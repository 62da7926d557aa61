"""Tables of records: `fit(frame).sample(10_000)`, pandas in, pandas out."""

from typing import TYPE_CHECKING, Any

from medsynth.core.frames import from_frame, to_frame
from medsynth.core.random import Key
from medsynth.core.table import Schema
from medsynth.tabular.synthesizer import Spec, TableSynthesizer, fit_table, load

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Fitted", "Spec", "TableSynthesizer", "fit", "fit_table", "load"]


class Fitted:
    """A fitted frame; `model` is what can be saved."""

    def __init__(self, model: TableSynthesizer) -> None:
        self.model = model

    def sample(
        self, rows: int, seed: int = 0, where: dict[str, str] | None = None
    ) -> "pd.DataFrame":
        """A frame of new rows with the dtypes of the fitted one; see `TableSynthesizer.sample`."""
        return to_frame(self.model.sample(rows, Key(seed, ("table",)), where))


def fit(
    frame: "pd.DataFrame", *, schema: Schema | None = None, seed: int = 0, **options: Any
) -> Fitted:
    """Learn how the rows of a frame look.

    Args:
        frame: At least 50 rows, any dtypes.
        schema: Declared columns; others are inferred.
        seed: The same seed gives the same model.
        options: Fields of `Spec`.

    Raises:
        DataError: See `core.frames.from_frame`.

    Example:
        >>> import numpy as np, pandas as pd
        >>> rng = np.random.default_rng(0)
        >>> sexes, ages = rng.choice(["F", "M"], 200), rng.integers(40, 80, 200)
        >>> frame = pd.DataFrame({"sex": sexes, "age": ages})
        >>> fit(frame, epochs=1).sample(3).dtypes.equals(frame.dtypes)
        True
    """
    return Fitted(fit_table(from_frame(frame, schema), Spec(**options), seed))
