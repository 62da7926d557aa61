"""`medsynth evaluate table`: synthetic rows against real ones."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsynth.commands import console
from medsynth.commands.utility import publish

if TYPE_CHECKING:
    from medsynth.evaluation.records import Section


@dataclass(frozen=True)
class EvaluateTable:
    """Compare synthetic rows with real ones, beside independent columns and a Gaussian copula.

    Args:
        real: Rows that the model was fitted on, CSV or Parquet.
        synthetic: Synthetic rows, the same columns.
        out: The report.
        held_out: Real rows that the model has not seen: for utility and privacy.
        target: Column to predict.
        schema: Declared columns, YAML; None infers them from the real rows.
        seed: Root of draws and splits.
        json: Print the records as JSON.
    """

    real: Path
    synthetic: Path
    out: Path
    held_out: Path | None = None
    target: str | None = None
    schema: Path | None = None
    seed: int = 0
    json: bool = False

    def run(self) -> int:
        """Measure and write the section."""
        publish(self.out, self.measure(), [], as_json=self.json)
        return 0

    def measure(self) -> "Section":
        """The section; it has no pictures."""
        from medsynth.core.random import Key
        from medsynth.evaluation import tables as measured
        from medsynth.io import tables

        declared = tables.read_schema(self.schema) if self.schema else None
        real = tables.read(self.real, declared)
        made, held_out = (
            None if path is None else tables.read(path, real.schema)
            for path in (self.synthetic, self.held_out)
        )
        assert made is not None
        key = Key(self.seed, ("table",))
        return measured.measure(real, made, key, held_out=held_out, target=self.target)


def add(verbs: Any) -> None:
    """Tell argparse about the verb."""
    p = verbs.add_parser(
        "table",
        help="are synthetic records like real ones, and nobody's?",
        description=console.summary(EvaluateTable),
        epilog="Example: medsynth evaluate table --real fitted.csv --synthetic made.csv "
        "--held-out others.csv --target died -o report",
    )
    p.add_argument("--real", type=Path, required=True, metavar="TABLE")
    p.add_argument("--synthetic", type=Path, required=True, metavar="TABLE")
    p.add_argument("--held-out", type=Path, metavar="TABLE", help="rows that nobody was fitted on")
    p.add_argument("--target", metavar="COLUMN", help="column to predict")
    p.add_argument("--schema", type=Path, help="declared columns, YAML")
    p.add_argument("-o", "--out", type=Path, required=True, metavar="REPORT")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--json", action="store_true", help="print the records as JSON")
    p.set_defaults(
        make=lambda a: EvaluateTable(
            a.real, a.synthetic, a.out, a.held_out, a.target, a.schema, a.seed, a.json
        )
    )
