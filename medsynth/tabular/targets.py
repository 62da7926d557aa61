"""Targets: which shares the levels of a column shall have.

Knows columns and counts; no models, no files.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medsynth.core.table import Column, Schema, number_of
from medsynth.errors import ConfigError, DataError

REST = "*"
"""In place of a level: all levels and missing marks that are not named."""

TOLERANCE = 1e-6
"""How far shares may be from adding up to 1."""

MOST_NAMED = 10
"""Levels that are listed when those that were asked for do not exist."""

ITEM = re.compile(r"(.*?):([-+.\deE]+)\s*(?:,|$)", re.DOTALL)


@dataclass(frozen=True)
class Target:
    """Shares that the levels of a column shall have; `of` makes one from some of them.

    Args:
        column: Its name.
        shares: All of `Column.texts` in that order; 0 where nothing was asked for.
        others: Levels that share `rest` among them, in the proportions observed.
        rest: Their share.
    """

    column: str
    shares: Mapping[str, float]
    others: tuple[str, ...] = ()
    rest: float = 0.0

    @classmethod
    def of(cls, column: Column, shares: Mapping[str, float]) -> "Target":
        """A target from the levels that were named; others get nothing, missing values too.

        Args:
            column: A column of names.
            shares: By level or missing mark; `REST` stands for all that are not named.

        Raises:
            ConfigError: A column of numbers or identifiers, an unknown level, a share outside 0 to
                1, or shares that do not add up to 1.
        """
        if not column.named:
            raise ConfigError(
                "a column of names to set shares for", f"a column of kind {column.kind}",
                column.name, "Declare it categorical in the schema, or add a column of its groups.",
            )  # fmt: skip
        texts = column.texts
        for text, share in shares.items():
            if text not in texts and text != REST:
                number_of(column, text)  # names the nearest level
            if not 0 <= share <= 1:
                raise ConfigError("shares between 0 and 1", f"{text}:{share:g}", column.name)
        total = sum(shares.values())
        if abs(total - 1) > TOLERANCE:
            raise ConfigError(
                "shares that add up to 1", f"{total:.7g}", column.name,
                f"Levels that are not named get nothing; {REST} stands for all of them.",
            )  # fmt: skip
        rest = 0.0 if REST in texts else shares.get(REST, 0.0) / total
        others = tuple(text for text in texts if text not in shares) if rest else ()
        return cls(column.name, {t: shares.get(t, 0.0) / total for t in texts}, others, rest)

    def wanted(self, observed: np.ndarray, behind: str) -> np.ndarray:
        """Shares of all texts, `(texts,)`, the rest divided as the observed rows are.

        Args:
            observed: Rows of each text, `(texts,)`.
            behind: What these rows are, in words.

        Raises:
            DataError: A level that is asked for was never observed.
        """
        none = f"none of {observed.sum():,} {behind} has"
        there = "; there are " + self.levels(observed > 0)
        shares = np.array(list(self.shares.values()))
        others = np.array([text in self.others for text in self.shares])
        for text, share, rows in zip(self.shares, shares, observed, strict=True):
            if share > 0 and rows == 0:
                raise unmet(f"{self.column}={text}:{share:g}, but {none} it{there}")
        if self.rest:
            rest = observed[others].sum()
            if rest == 0:
                raise unmet(f"{self.column}={REST}:{self.rest:g}, but {none} another level{there}")
            shares[others] = self.rest * observed[others] / rest
        return shares

    def levels(self, there: np.ndarray) -> str:
        """Levels in words, at most `MOST_NAMED` of those that are there, boolean `(texts,)`."""
        named = [text for text, here in zip(self.shares, there, strict=True) if here]
        more = ", …" if len(named) > MOST_NAMED else ""
        return f"{self.column}=" + ", ".join(named[:MOST_NAMED]) + more if named else "none"

    def asked(self, shares: np.ndarray) -> str:
        """Levels that have some of these shares, as they are written on the command line."""
        pairs = zip(self.shares, shares, strict=True)
        return f"{self.column}=" + ",".join(f"{t}:{share:g}" for t, share in pairs if share > 0)


def parse_targets(texts: Sequence[str], schema: Schema) -> tuple[Target, ...]:
    """Targets as written on the command line, `site=lung:0.3,breast:0.2,*:0.5`.

    Levels that are not named get nothing, missing values included; `*` gives a share to all of
    them together, divided as observed. Levels may hold commas and colons.

    Raises:
        ConfigError: Not written like that, the same column or level twice, or what `Target.of`
            refuses.
    """
    targets: list[Target] = []
    for text in texts:
        known = [c.name for c in schema.columns if text.startswith(f"{c.name}=")]
        name = max(known, key=len) if known else text.partition("=")[0]
        column = schema.column(name)
        if column.name in [target.column for target in targets]:
            raise ConfigError("one target for a column", "two", name, "Put all levels into one.")
        body, at, shares = text[len(name) + 1 :], 0, dict[str, float]()
        while at < len(body) or not shares:
            item = ITEM.match(body, at)
            try:
                share = float(item[2]) if item else None
            except ValueError:
                share = None
            if item is None or share is None:
                raise ConfigError(f"shares like {name}=A:0.5,B:0.5", repr(text), "a target")
            level = item[1] if item[1] in column.texts else item[1].strip()
            if level in shares:
                raise ConfigError(f"each level of {name} once", f"{level!r} twice", "a target")
            shares[level], at = share, item.end()
        targets.append(Target.of(column, shares))
    return tuple(targets)


def unmet(found: str) -> DataError:
    """The error of targets that the records cannot meet."""
    todo = "Change the shares, or fit on more records."
    return DataError("targets that the records can meet", found, None, todo)
