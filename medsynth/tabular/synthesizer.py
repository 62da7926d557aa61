"""Fitted models of records: sample under conditions, save, load. Knows no configuration files.

One file is a model: weights, codec, and what was promised stand in it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from medsynth.config.tabular import Model
from medsynth.core.codes import Codes
from medsynth.core.random import Key
from medsynth.core.table import Schema, Table, ends_of, number_of
from medsynth.errors import ConfigError, DataError, ModelError, UsageError
from medsynth.tabular.autoregressive import AutoregressiveNetwork, hidden_nats
from medsynth.tabular.codec import Cells, Codec
from medsynth.tabular.contradictions import Contradictions
from medsynth.tabular.material import code_network, row_network
from medsynth.tabular.models import CodeModel, RowModel
from medsynth.tabular.sets import CodeRates
from medsynth.tabular.spans import Spans
from medsynth.tabular.vectors import Layout
from medsynth.training.game import Noise, Share
from medsynth.training.weights import load_model, mismatch, save_model

FORMAT = "medsynth-records/1"
CHUNK = 1024
"""Records made at a time; in each the network visits the columns in an order of its own."""

TRIES = 200
"""Rounds of redrawing rows that break a rule, or are canaries."""

PATIENT = 20
"""Rounds from which on whole chunks are drawn, however few rows are wrong."""

Promise = Mapping[str, Any]
"""What a private model has spent: `delta`, and the ledger."""


@dataclass(frozen=True, eq=False)
class TableSynthesizer:
    """A network that has learnt how rows of a table look.

    Args:
        schema: Of the rows.
        spans: Dates that are learnt as days since others.
        codec: Columns to cells, spans in place of these dates.
        layout: Of the cells.
        network: In evaluation mode.
        model: How it was made.
        canaries: Tokens of made-up rows that were hidden in the table, `(C, D)`; never sampled.
        never: What no row contradicts, real or made.
        promise: What was spent of privacy; None for a model without a promise.
        fingerprint: First 16 digits of the SHA-256 of its file, or "unsaved".
    """

    schema: Schema
    spans: Spans
    codec: Codec
    layout: Layout
    network: RowModel
    model: Model
    canaries: np.ndarray
    never: Contradictions
    promise: Promise | None = None
    fingerprint: str = "unsaved"

    @classmethod
    def of(
        cls,
        schema: Schema,
        spans: Spans,
        codec: Codec,
        layout: Layout,
        model: Model,
        state: Mapping[str, Tensor],
        canaries: np.ndarray,
        never: Contradictions,
        promise: Promise | None,
    ) -> "TableSynthesizer":
        """From weights.

        Raises:
            RuntimeError: The weights are of another network.
        """
        network = row_network(model, layout)
        network.load_state_dict(state)
        network.eval().requires_grad_(False)
        return cls(schema, spans, codec, layout, network, model, canaries, never, promise)

    def sample(
        self, rows: int, key: Key | int = 0, where: Mapping[str, str] | None = None
    ) -> Table:
        """Make rows; none is a canary, breaks a rule of the schema or contradicts all real rows.

        Args:
            rows: How many.
            key: The same key gives the same rows.
            where: Column → value that all rows have, or a range of numbers or dates such as
                `60..80`; the others are drawn given these.

        Raises:
            UsageError: Less than one row.
            ConfigError: A column or level that there is not.
            DataError: The model never makes such a row.
        """
        if rows < 1:
            raise UsageError("at least 1 row", str(rows))
        root = key if isinstance(key, Key) else Key(key, ("table",))
        where = where or {}
        allowed, exact = self._asked(where)
        cells = self._cells(rows, root, allowed)
        made, faulty = self._judged(cells, root, where, exact)
        wrong = np.flatnonzero(faulty)
        for again in range(TRIES):
            if not len(wrong):
                return made
            count = len(wrong) if again < PATIENT else max(len(wrong), CHUNK)
            branch = root.fold("again", again)
            cells = self._cells(count, branch, allowed)
            more, faulty = self._judged(cells, branch, where, exact)
            good = np.flatnonzero(~faulty)[: len(wrong)]
            made = _put(made, wrong[: len(good)], more.take(good))
            wrong = wrong[len(good) :]
        raise DataError(
            "rows that contradict neither the rules of the schema nor all real rows",
            f"{len(wrong):,} of {rows:,} that do",
            _told(where) or None,
            "Hardly a real row has what the condition asks for (widen it), or the rules forbid "
            "what was learnt.",
        )  # fmt: skip

    def _asked(
        self, where: Mapping[str, str]
    ) -> tuple[Mapping[int, np.ndarray], Mapping[str, str]]:
        """What a condition allows: tokens of columns by position, and values that are set.

        Raises:
            ConfigError: A column or value that there is not, or an identifier.
        """
        allowed: dict[int, np.ndarray] = {}
        exact: dict[str, str] = {}
        for name, text in where.items():
            column = self.schema.column(name)
            if column.kind == "identifier":
                raise ConfigError("a column that is learnt", "an identifier, numbered anew", name)
            low, high = (0.0, 0.0) if text in column.marks else ends_of(column, text)
            reach = None
            if text in column.marks or name not in self.spans.names:
                tokens = self.codec.allowed(name, text)
                if low == high and text not in column.marks:
                    exact[name] = text
                reach = name, tokens
            elif found := self.spans.reach(self.schema, name, low, high):
                base = self.codec.names.index(found[0])
                tokens = self.codec.reaching(*found)
                tokens[: len(self.codec.columns[base].column.marks)] = True  # the date is drawn
                reach = found[0], tokens
            if reach is not None:
                index = self.codec.names.index(reach[0])
                allowed[index] = allowed.get(index, True) & reach[1]
                if not allowed[index].any():
                    raise ConfigError("conditions that go together", _told(where), reach[0])
        return allowed, exact

    def _judged(
        self, cells: Cells, root: Key, where: Mapping[str, str], exact: Mapping[str, str]
    ) -> tuple[Table, np.ndarray]:
        """Rows, and which of them may not leave: canaries, contradictions, other conditions."""
        days = self.codec.decode(cells.tokens, root.fold("values"), cells.offsets)
        made = self.spans.restored(_set(days, exact), self.schema, root.fold("dates"))
        faulty = _among(cells.tokens, self.canaries) | (made.broken() > 0)
        for name in where.keys() - exact.keys():
            faulty |= ~made.where(name, where[name])
        return made, faulty | self.never.broken(made)

    def _cells(self, rows: int, key: Key, allowed: Mapping[int, np.ndarray]) -> Cells:
        parts = [
            self.network.draw(min(CHUNK, rows - start), key.fold("rows", start), allowed)
            for start in range(0, rows, CHUNK)
        ]
        return Cells(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def log_likelihood(self, table: Table, draws: int = 8) -> np.ndarray:
        """An estimate of the log-likelihood of each row's tokens, nats, `(N,)`.

        It is the mean over random orders of columns.

        Args:
            table: Rows with the same columns.
            draws: Random orders and numbers of shown columns.

        Raises:
            UsageError: The model has no likelihood.
        """
        if not isinstance(self.network, AutoregressiveNetwork):
            raise UsageError("an autoregressive model", self.model.kind)
        tokens = torch.from_numpy(self.encode(table)).long()
        total = np.zeros(len(tokens))
        with torch.inference_mode():
            for draw in range(draws):
                share = Share(0, len(tokens), len(tokens))
                noise = Noise(draw, share, torch.device("cpu"))
                total -= hidden_nats(self.network, tokens, noise).numpy()
        return total / draws * tokens.shape[1]

    def encode(self, table: Table) -> np.ndarray:
        """Rows as int32 tokens `(N, D)`."""
        return self.codec.encode(self.spans.shortened(table))

    def save(self, path: Path) -> None:
        """Write `model.safetensors`; what it needs to be used again stands inside."""
        arrays = {f"codec.{k}": v for k, v in self.codec.arrays().items()}
        shares = {"layout.shares": np.concatenate(self.layout.shares)}
        told = {
            "what": "rows",
            "schema": json.dumps(self.schema.to_json()),
            "spans": json.dumps(self.spans.to_json()),
            "codec": json.dumps(self.codec.to_json()),
            "never": json.dumps(self.never.to_json()),
        }
        _save(path, self, arrays | shares | {"canaries": self.canaries}, told)


def _set(table: Table, where: Mapping[str, str]) -> Table:
    """The very values that were asked for, where a token stands for several."""
    values = dict(table.values)
    for name, text in where.items():
        column = table.schema.column(name)
        if text not in column.marks:
            values[name] = np.full_like(values[name], number_of(column, text))
    return replace(table, values=values)


def _put(table: Table, at: np.ndarray, rows: Table) -> Table:
    """Rows in place of others."""
    values = {name: v.copy() for name, v in table.values.items()}
    missing = {name: table.absent(name).copy() for name in {*table.missing, *rows.missing}}
    for name in values:
        if table.schema.column(name).kind != "identifier":
            values[name][at] = rows.values[name]
        if name in missing:
            missing[name][at] = rows.absent(name)
    return replace(table, values=values, missing=missing)


def _told(where: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={text}" for name, text in where.items())


def _among(tokens: np.ndarray, canaries: np.ndarray) -> np.ndarray:
    """Which rows are canaries, `(N,)`."""
    known = {row.tobytes() for row in np.ascontiguousarray(canaries, np.int32)}
    if not known:
        return np.zeros(len(tokens), bool)
    return np.array([row.tobytes() in known for row in np.ascontiguousarray(tokens, np.int32)])


@dataclass(frozen=True, eq=False)
class CodesSynthesizer:
    """A network that has learnt which codes subjects have.

    Args:
        names: Of the codes.
        known: What was counted of them.
        network: In evaluation mode.
        model: How it was made.
        binary: Whether no code is counted twice.
        canaries: Made-up subjects that were hidden among the others, CSR; never sampled.
        promise, fingerprint: See `TableSynthesizer`.
    """

    names: tuple[str, ...]
    known: CodeRates
    network: CodeModel
    model: Model
    binary: bool
    canaries: Any
    promise: Promise | None = None
    fingerprint: str = "unsaved"

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        known: CodeRates,
        model: Model,
        state: Mapping[str, Tensor],
        binary: bool,
        canaries: Any,
        promise: Promise | None,
    ) -> "CodesSynthesizer":
        """From weights.

        Raises:
            RuntimeError: The weights are of another network.
        """
        network = code_network(model, known, binary=binary)
        network.load_state_dict(state)
        network.eval().requires_grad_(False)
        hidden = (
            sparse.csr_matrix((0, len(names)), dtype=np.int32) if canaries is None else canaries
        )
        return cls(tuple(names), known, network, model, binary, hidden, promise)

    def sample(
        self, rows: int, key: Key | int = 0, where: Mapping[str, str] | None = None
    ) -> Codes:
        """Make subjects.

        Args:
            rows: How many.
            key: The same key gives the same subjects.
            where: Code → `"1"` for subjects that have it, `"0"` for such that do not.

        Raises:
            UsageError: Less than one subject.
            ConfigError: A value other than 0 and 1.
            DataError: No such code, or the model never makes such a subject.
        """
        if rows < 1:
            raise UsageError("at least 1 row", str(rows))
        asked: dict[str, list[int]] = {"1": [], "0": []}
        empty = Codes(sparse.csr_matrix((0, len(self.names))), self.names)
        for name, value in (where or {}).items():
            if value not in asked:
                raise ConfigError("1 (has the code) or 0 (has it not)", repr(value), name)
            asked[value].append(empty.index(name))
        root = key if isinstance(key, Key) else Key(key, ("codes",))
        parts = []
        for start in range(0, rows, CHUNK):
            count, branch = min(CHUNK, rows - start), root.fold("rows", start)
            made = self.network.draw(count, branch, asked["1"], asked["0"])
            for again in range(TRIES):
                found = np.flatnonzero(_known_sets(made, self.canaries))
                if not len(found):
                    break
                more = self.network.draw(
                    len(found), branch.fold("again", again), asked["1"], asked["0"]
                )
                kept = np.setdiff1d(np.arange(count), found)
                made = sparse.vstack([made[kept], more], "csr")
            else:
                raise DataError("subjects that are no canaries", "canaries again and again")
            parts.append(made)
        return Codes(sparse.vstack(parts, "csr"), self.names)

    def save(self, path: Path) -> None:
        """Write `model.safetensors`; what it needs to be used again stands inside."""
        known = {f"codes.{k}": v for k, v in vars(self.known).items()}
        hidden = {"canaries": np.asarray(self.canaries.todense(), np.int32)}
        told = {"what": "codes", "names": json.dumps(self.names), "binary": json.dumps(self.binary)}
        _save(path, self, known | hidden, told)


def _known_sets(made: Any, canaries: Any) -> np.ndarray:
    """Which subjects have exactly the codes of a canary, `(N,)`."""
    if not canaries.shape[0]:
        return np.zeros(made.shape[0], bool)
    ones, theirs = (m.astype(bool).astype(np.int32) for m in (made, canaries))
    shared = (ones @ theirs.T).toarray()
    sizes, wanted = np.diff(ones.indptr), np.diff(theirs.indptr)
    return np.asarray(((shared == sizes[:, None]) & (shared == wanted)).any(1))


def _save(
    path: Path,
    made: TableSynthesizer | CodesSynthesizer,
    arrays: Mapping[str, np.ndarray],
    told: Mapping[str, str],
) -> None:
    tensors = {f"network.{k}": v for k, v in made.network.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "model": json.dumps(asdict(made.model)),
        "promise": json.dumps(made.promise),
        **told,
    }
    save_model(path, tensors | {k: torch.from_numpy(v) for k, v in arrays.items()}, metadata)


def load(path: Path | str) -> TableSynthesizer | CodesSynthesizer:
    """A model of records from a run folder or a `model.safetensors`.

    Raises:
        UsageError: No model there.
        ModelError: The file is not a model of records of this version.
    """
    file = Path(path)
    file = file / "model.safetensors" if file.is_dir() else file
    if not file.exists():
        raise UsageError("a run with model.safetensors", "none", path)
    tensors, metadata, fingerprint = load_model(file)
    if metadata.get("format") != FORMAT:
        raise ModelError(f"a model of format {FORMAT!r}", repr(metadata.get("format")), file)
    plain: dict[str, Any] = json.loads(metadata["model"])
    model = Model(**(plain | {"critic": tuple(plain["critic"])}))
    promise = json.loads(metadata["promise"])
    state = {k.removeprefix("network."): v for k, v in tensors.items() if k[:8] == "network."}
    arrays = {k: v.numpy() for k, v in tensors.items() if k[:8] != "network."}
    made: TableSynthesizer | CodesSynthesizer
    try:
        if metadata["what"] == "rows":
            codec = Codec.from_json(
                json.loads(metadata["codec"]),
                {k.removeprefix("codec."): v for k, v in arrays.items() if k[:6] == "codec."},
            )
            edges = np.cumsum(codec.sizes)[:-1]
            shares = tuple(np.split(arrays["layout.shares"], edges))
            layout = replace(Layout.of(codec, None), shares=shares)
            never = Contradictions.from_json(json.loads(metadata["never"]))
            made = TableSynthesizer.of(
                Schema.from_json(json.loads(metadata["schema"])) if "schema" in metadata
                else codec.schema,
                Spans.from_json(json.loads(metadata.get("spans", "[]"))), codec, layout, model,
                state, arrays["canaries"], never, promise,
            )  # fmt: skip
        else:
            known = CodeRates(*(arrays[f"codes.{k}"] for k in ("lengths", "rates", "repeats")))
            hidden = sparse.csr_matrix(arrays["canaries"])
            names, binary = json.loads(metadata["names"]), json.loads(metadata["binary"])
            made = CodesSynthesizer.of(names, known, model, state, binary, hidden, promise)
    except RuntimeError as error:
        raise ModelError("the weights of that network", mismatch(error), file) from error
    return replace(made, fingerprint=fingerprint)
