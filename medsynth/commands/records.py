"""`medsynth generate RUN --rows N`: rows or codes from a model of records."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsynth.commands import console
from medsynth.errors import ConfigError, DataError, UsageError

if TYPE_CHECKING:
    from medsynth.core.table import Table
    from medsynth.tabular import CodesSynthesizer, TableSynthesizer

JOINT_ROWS = 20_000
"""Rows that the model makes to know how its levels go together, when no real table is named."""

LOOKED_AT = 4_000
"""Rows that tell how often the model makes what is asked for."""

OPTIONS = ("where", "target", "real", "epsilon", "k", "quasi")
"""Options that only records have, beside how many rows."""


@dataclass(frozen=True)
class GenerateRecords:
    """Make records.

    Args:
        model: A run, or its model.safetensors.
        out: `.csv`, `.csv.gz`, `.tsv`, `.parquet`; for codes also `.npz`. Beside it stands
            `OUT.json`: where the rows come from.
        rows: How many.
        seed: The same seed gives the same records.
        where: `column=value` that all of them have; of numbers and dates also `age=60..80`.
        targets: `column=level:share,…` for equalisation, several columns at once.
        real: The real table, whose joint shares are raked to the targets, rather than those of
            rows that the model makes; it also tells how many people stand behind them. Not for a
            model with a promise, which does not cover it.
        epsilon: Refuse unless the model was trained within it.
        k: Least number of rows in a cell of the quasi-identifiers.
        quasi: Quasi-identifiers, `sex`, `age` or `age=18,40,65`.
        json: Print the answer as JSON.
    """

    model: Path
    out: Path
    rows: int
    seed: int = 0
    where: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    real: Path | None = None
    epsilon: float | None = None
    k: int | None = None
    quasi: tuple[str, ...] = ()
    json: bool = False

    def run(self) -> int:
        """Generate, write and say what was done."""
        from medsynth import tabular
        from medsynth.core.paths import write_text
        from medsynth.io import tables

        if (self.k is None) != (not self.quasi):
            raise UsageError("both --k and --quasi, or none", "one")
        if self.real is not None and not self.targets:
            raise UsageError("--target beside --real", "none")
        refuse_foreign(self.out)
        if self.out.exists():
            console.say(f"{self.out}: replaces the synthetic rows of before")
        model = tabular.load(self.model)
        if self.real is not None and model.promise is not None:
            raise UsageError(
                "no --real with a model trained with differential privacy", str(self.real), None,
                "Its promise does not cover exact counts of real people: leave --real out, and "
                "the joint shares of the model's own rows are raked.",
            )  # fmt: skip
        self._refuse_unpromised(model)
        where = _conditions(self.where)
        told: dict[str, Any] = {
            "synthetic": True, "model": model.fingerprint, "kind": model.model.kind,
            "seed": self.seed, "where": where, "promise": model.promise,
        }  # fmt: skip
        if isinstance(model, tabular.CodesSynthesizer):
            if self.targets or self.quasi:
                raise UsageError("--target and --k with tables of columns", "a model of codes")
            codes = model.sample(self.rows, self.seed, where)
            tables.write_codes(self.out, codes)
            told |= {"rows": len(codes)}
        else:
            table = self._rows(model, where, told)
            tables.write(self.out, table)
            told |= {"rows": table.rows, "rules_broken": int((table.broken() > 0).sum())}
        import json

        write_text(sidecar(self.out), json.dumps(told, indent=2, sort_keys=True) + "\n")
        console.say(f"{told['rows']:,} records in {self.out}")
        if self.json:
            console.answer(told | {"out": self.out})
        return 0

    def _rows(
        self, model: "TableSynthesizer", where: Mapping[str, str], told: dict[str, Any]
    ) -> "Table":
        from medsynth.core.random import Key
        from medsynth.io import tables
        from medsynth.tabular.anonymity import anonymous, parse_quasi
        from medsynth.tabular.equalise import OWN, REAL, afterwards, equalised, parse_targets
        from medsynth.tabular.quasi import exact

        key = Key(self.seed, ("table",))

        def draw(rows: int, root: Key, more: Mapping[str, str]) -> "Table":
            return model.sample(rows, root, {**where, **more})

        targets, report = parse_targets(self.targets, model.schema), None
        if targets:
            if self.real is not None:
                joint = tables.read(self.real, model.schema)
                for name, value in where.items():
                    joint = joint.take(joint.where(name, value).nonzero()[0])
            else:
                joint = draw(JOINT_ROWS, key.fold("joint"), {})
            behind = OWN if self.real is None else REAL
            table, report = equalised(draw, joint, targets, self.rows, key, behind)
            for words in report.warnings:
                console.say(f"warning: {words}")
            console.say(
                f"equalised: effective sample size {report.effective_rows:.0f} of "
                f"{report.rows_behind:,} {behind}" + ("" if self.real else ", which are nobody")
            )
        else:
            table = model.sample(self.rows, key, where)
        _tell_seldom(model, where)
        if self.k is not None:
            quasi = parse_quasi(self.quasi, table)
            for words in exact(self.quasi, quasi, table):
                console.say(f"warning: {words}")
            table, small = anonymous(draw, table, quasi, self.k, key.fold("anonymous"))
            told["anonymous"] = small.to_json()
            console.say(
                f"k = {self.k}: {small.small_before} small cells, {small.added} rows added, "
                f"{small.dropped} dropped, joint drift {small.joint_drift:.3f}"
            )
            if report is not None:
                report = afterwards(report, table, targets)
        if report is not None:
            told["equalised"] = report.to_json()
        return table

    def _refuse_unpromised(self, model: "TableSynthesizer | CodesSynthesizer") -> None:
        """Hold the model to `epsilon`.

        Raises:
            DataError: It has no promise, or a weaker one.
        """
        if self.epsilon is None:
            return
        from medsynth.training.privacy import Ledger

        asked = f"a model trained within ε = {self.epsilon:g}"
        todo = "It cannot be added afterwards: train with --epsilon."
        if model.promise is None:
            raise DataError(asked, "one without differential privacy", self.model, todo)
        delta = model.promise["delta"]
        ledger = Ledger.from_dict(model.promise)
        spent = ledger.epsilon(delta)
        if spent > self.epsilon:
            raise DataError(asked, f"ε = {spent:.3g} at δ = {delta:g}", self.model, todo)
        console.say(ledger.words(delta))


def refuse_foreign(out: Path) -> None:
    """Never write over a table that is not ours: ours have a sidecar.

    Raises:
        DataError: Another file stands there.
    """
    if out.exists() and not sidecar(out).exists():
        raise DataError(
            "a new file, or synthetic rows of before", "another file", out,
            "Choose another --out, or delete it.",
        )  # fmt: skip


def sidecar(out: Path) -> Path:
    """`OUT.json`: where rows come from."""
    return out.with_name(out.name + ".json")


def _tell_seldom(model: "TableSynthesizer", where: Mapping[str, str]) -> None:
    """Warn of rows that the model seldom makes by itself: nobody knows how many people they are."""
    import numpy as np

    from medsynth.core.table import is_range
    from medsynth.tabular.equalise import SELDOM

    asked = [(model.schema.column(name), text) for name, text in where.items()]
    asked = [(c, text) for c, text in asked if c.named or is_range(c, text)]  # a day is rare
    if not asked:
        return
    made = model.sample(LOOKED_AT, 0)
    fit = np.logical_and.reduce([made.where(column.name, text) for column, text in asked])
    if fit.mean() < SELDOM:
        told = ", ".join(f"{column.name}={text}" for column, text in asked)
        console.say(
            f"warning: {told}: by itself the model makes {int(fit.sum())} such rows in "
            f"{LOOKED_AT:,}; few or no real people may stand behind them"
        )


def _conditions(texts: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError("--where COLUMN=VALUE", repr(text), None, "For example sex=F.")
        if name in found:
            raise ConfigError(f"one value of {name}", "two", "--where")
        found[name] = value
    return found


def add(p: Any) -> None:
    """Tell argparse about the options for records."""
    group = p.add_argument_group("records")
    group.add_argument("--rows", type=int, help="how many records")
    group.add_argument(
        "--where", action="append", metavar="COLUMN=VALUE",
        help="what all records have, e.g. sex=F or age=60..80; of codes 1 or 0, e.g. 250=1",
    )  # fmt: skip
    group.add_argument(
        "--target", action="append", metavar="COLUMN=LEVEL:SHARE,…",
        help="equalise: shares that the records shall have; several columns at once",
    )  # fmt: skip
    group.add_argument(
        "--real", type=Path, metavar="TABLE",
        help="rake the joint shares of this table to the targets, not those of the model's own "
        "rows, and tell how many people stand behind them",
    )  # fmt: skip
    group.add_argument(
        "--epsilon", type=float, help="refuse unless the model was trained within it"
    )
    group.add_argument("--k", type=int, help="least rows in a cell of the quasi-identifiers")
    group.add_argument(
        "--quasi", action="append", metavar="COLUMN,…",
        help="quasi-identifiers, e.g. sex,site; bands of a number as age=18,40,65",
    )  # fmt: skip


def make(a: Any) -> GenerateRecords:
    """The verb from parsed arguments."""
    parts = ([text] if "=" in text else text.split(",") for text in a.quasi or ())
    quasi = tuple(part for some in parts for part in some)
    return GenerateRecords(
        a.model, a.out, a.rows, a.seed, tuple(a.where or ()), tuple(a.target or ()), a.real,
        a.epsilon, a.k, quasi, a.json,
    )  # fmt: skip
