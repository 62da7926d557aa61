"""`medsynth evaluate table`: synthetic rows, or subjects with codes, against real ones."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsynth.commands import console, given
from medsynth.commands.utility import publish
from medsynth.errors import DataError, UsageError

if TYPE_CHECKING:
    from medsynth.core.codes import Codes
    from medsynth.core.table import Schema, Table
    from medsynth.evaluation.records import Section
    from medsynth.evaluation.report import Picture

OWN = ("subject", "code")
"""Columns of the long form that medsynth writes."""


@dataclass(frozen=True)
class EvaluateTable:
    """Compare synthetic rows (or codes of subjects) with real ones, beside independent columns.

    Args:
        real: Rows that the model was fitted on, CSV or Parquet; codes as `.npz`, or in the long
            form with `subject` and `code`.
        synthetic: Synthetic rows, the same columns; or codes by the same names.
        out: The report.
        held_out: Real rows that the model has not seen: for utility and privacy.
        target: Column to predict.
        subgroup: Column whose levels get a utility each.
        schema: Declared columns, YAML; None infers them from the real rows.
        subject, code: Columns of the long form of codes.
        digits: Group codes of the long form by their first characters.
        seed: Root of draws and splits.
        json: Print the records as JSON.
    """

    real: Path
    synthetic: Path
    out: Path
    held_out: Path | None = None
    target: str | None = None
    subgroup: str | None = None
    schema: Path | None = None
    subject: str | None = None
    code: str | None = None
    digits: int | None = None
    seed: int = 0
    json: bool = False

    @property
    def coded(self) -> bool:
        """Whether files hold codes of subjects rather than rows."""
        files = (self.real, self.synthetic, self.held_out)
        named = self.subject or self.code or self.digits is not None
        return bool(named) or any(f is not None and f.suffix == ".npz" for f in files)

    def run(self) -> int:
        """Measure and write the section."""
        publish(self.out, *self.measure(), as_json=self.json)
        return 0

    def measure(self) -> tuple["Section", list["Picture"]]:
        """The section, and for codes the picture of their rates.

        Raises:
            UsageError: Options that do not fit each other.
            DataError: Files that cannot be read or do not fit each other, that are given twice, or
                rows that a model made in place of real ones.
        """
        given.refuse_twice(
            {"--real": self.real, "--synthetic": self.synthetic, "--held-out": self.held_out}
        )
        given.real_rows(self.real, "--real")
        if self.held_out is not None:
            given.real_rows(self.held_out, "--held-out")
        return self._codes() if self.coded else (self._rows(), [])

    def _rows(self) -> "Section":
        from medsynth.core.random import Key
        from medsynth.evaluation import tables as measured
        from medsynth.io import tables

        if self.subgroup and not self.target:
            raise UsageError(
                "--target beside --subgroup", "none", None,
                f"Name the column that is predicted for each {self.subgroup}.",
            )  # fmt: skip
        declared = tables.read_schema(self.schema) if self.schema else None
        real = tables.read(self.real, declared)
        made = tables.read(self.synthetic, real.schema, more_levels=True)
        held_out = None
        if self.held_out is not None:
            held_out = tables.read(self.held_out, made.schema, more_levels=True)
            _tell_new(real.schema, held_out, self.held_out)
        _tell_new(real.schema, made, self.synthetic)
        schema = made.schema if held_out is None else held_out.schema
        real, made = replace(real, schema=schema), replace(made, schema=schema)
        key = Key(self.seed, ("table",))
        return measured.measure(
            real, made, key, held_out=held_out, target=self.target, subgroup=self.subgroup
        )

    def _codes(self) -> tuple["Section", list["Picture"]]:
        from medsynth import show
        from medsynth.core.random import Key
        from medsynth.evaluation import codes as measured
        from medsynth.evaluation import report

        of_rows = {"target": self.target, "subgroup": self.subgroup, "schema": self.schema}
        named = [f"--{name}" for name, value in of_rows.items() if value is not None]
        if named:
            raise UsageError(
                "options that codes have", ", ".join(named), None,
                "They are for tables with a row per record; every frequent code is predicted.",
            )  # fmt: skip
        real = self._read(self.real)
        made = self._read(self.synthetic)
        held_out = self._read(self.held_out) if self.held_out else None
        try:
            real, made, held_out = measured.aligned(real, made, held_out)
        except DataError as error:
            raise DataError(
                error.expected, error.found, self.synthetic,
                "Real and synthetic codes must have the same names, grouped by the same --digits.",
            ) from error  # fmt: skip
        section = measured.measure(real, made, Key(self.seed, ("table",)), held_out)
        figure = show.scatter(
            real.rates, made.rates, ("share of real subjects", "share of synthetic subjects"),
            "Rates of codes",
        )  # fmt: skip
        show.save(figure, self.out / "pictures" / "codes-rates.png")
        caption = (
            "Dimension-wise probability: a dot a code, logarithmic; on the line rates are equal. "
            "Independent codes lie on it, too."
        )
        return section, [report.Picture("codes-rates.png", caption)]

    def _read(self, path: Path) -> "Codes":
        """Codes of a file; the long form by the named columns, or as medsynth writes it."""
        from medsynth.io import tables

        if path.suffix == ".npz":
            return tables.read_codes(path)[0]
        subject, code = self.subject or OWN[0], self.code or OWN[1]
        try:
            return tables.read_codes(path, subject, code, self.digits)[0]
        except DataError as error:
            if (subject, code) == OWN or path != self.synthetic or not path.exists():
                raise DataError(
                    error.expected, error.found, path, "Name them with --subject and --code."
                ) from error
            return tables.read_codes(path, *OWN, self.digits)[0]


def _tell_new(known: "Schema", table: "Table", path: Path) -> None:
    """Say which names of a file no real row has; they count as values of their own."""
    for column in table.schema.modelled:
        names = column.levels[len(known.column(column.name).levels) :]
        new = [name for name in names if table.where(column.name, name).any()]
        if new:
            more = f" and {len(new) - 5} more" if len(new) > 5 else ""
            told = ", ".join(map(repr, new[:5])) + more
            console.say(f"warning: {path} has {column.name} {told}, which no real row has")


def add(verbs: Any) -> None:
    """Tell argparse about the verb."""
    p = verbs.add_parser(
        "table",
        help="are synthetic records like real ones, and nobody's?",
        description=console.summary(EvaluateTable),
        epilog="Examples: medsynth evaluate table --real fitted.csv --synthetic made.csv "
        "--held-out others.csv --target died --subgroup sex -o report; medsynth evaluate table "
        "--real fitted.npz --synthetic made.npz --held-out others.npz -o report",
    )
    p.add_argument("--real", type=Path, required=True, metavar="TABLE")
    p.add_argument("--synthetic", type=Path, required=True, metavar="TABLE")
    p.add_argument("--held-out", type=Path, metavar="TABLE", help="rows that nobody was fitted on")
    p.add_argument("--target", metavar="COLUMN", help="column to predict")
    p.add_argument("--subgroup", metavar="COLUMN", help="utility for each of its levels")
    p.add_argument("--schema", type=Path, help="declared columns, YAML")
    p.add_argument("--subject", metavar="COLUMN", help="codes in the long form: whose")
    p.add_argument("--code", metavar="COLUMN", help="codes in the long form: which")
    p.add_argument("--digits", type=int, help="group codes by their first characters, 3 for ICD-9")
    p.add_argument("-o", "--out", type=Path, required=True, metavar="REPORT")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--json", action="store_true", help="print the records as JSON")
    p.set_defaults(
        make=lambda a: EvaluateTable(
            a.real, a.synthetic, a.out, a.held_out, a.target, a.subgroup, a.schema,
            a.subject, a.code, a.digits, a.seed, a.json,
        )
    )  # fmt: skip
