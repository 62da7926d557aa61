"""Tables on disk: CSV and Parquet, sparse matrices of codes, and the long form hospitals have."""

import csv
import gzip
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from medsynth.core.codes import Codes
from medsynth.core.frames import MISSING, from_frame, to_frame
from medsynth.core.table import Schema, Table
from medsynth.errors import ConfigError, DataError
from medsynth.io.files import read_text, writing

if TYPE_CHECKING:
    import pandas as pd

ENDINGS = (".csv", ".csv.gz", ".tsv", ".parquet")

SEPARATORS = {
    ";": (
        "semicolons",
        "Save it with commas between columns and points in numbers (1.5, not 1,5).",
    ),
    "\t": ("tabs", "Name it .tsv, or save it with commas."),
}
"""What else may stand between the columns of a `.csv`, and what to do about it."""


def read(path: Path, schema: Schema | None = None, *, more_levels: bool = False) -> Table:
    """Read a table.

    CSV is read as text, so that what a person wrote can be written again: missing marks, digits,
    leading zeros.

    Args:
        path: `.csv`, `.csv.gz`, `.tsv` or `.parquet`.
        schema: Declared columns; None infers all.
        more_levels: See `core.frames.from_frame`.

    Raises:
        DataError: No such file, another ending, not UTF-8, semicolons or tabs between columns, not
            a table; see `core.frames`.
    """
    if not path.exists():
        raise DataError("a table", "no such file", path)
    frame = _frame(path)
    try:
        return from_frame(frame, schema, more_levels=more_levels)
    except (DataError, ConfigError) as error:
        what = "" if error.where is None else f", {error.where}"
        raise type(error)(error.expected, error.found, f"{path}{what}", error.todo) from error


def write(path: Path, table: Table) -> None:
    """Write a table, whole or not at all.

    Raises:
        DataError: Another ending, or a disk that is full.
    """
    frame = to_frame(table)
    if not path.name.lower().endswith(ENDINGS):
        raise DataError(f"a table ({', '.join(ENDINGS)})", repr(path.name), path)
    _write_frame(path, frame)


def read_schema(path: Path) -> Schema:
    """Read a declared schema, YAML.

    Raises:
        UsageError: No such file, or not text.
        ConfigError: Not a table schema.
    """
    import yaml

    return Schema.from_json(yaml.safe_load(read_text(path, "a table schema")) or {}, path)


def write_schema(path: Path, schema: Schema) -> None:
    """Write a schema as YAML, to look at and to correct."""
    import yaml

    with writing(path, overwrite=True) as beside:
        text = yaml.safe_dump(schema.to_json(), sort_keys=False, allow_unicode=True)
        beside.write_text(text, encoding="utf-8")


def read_codes(
    path: Path, subject: str | None = None, code: str | None = None, digits: int | None = None
) -> tuple[Codes, np.ndarray]:
    """Read codes.

    Args:
        path: A CSR matrix as `scipy.sparse.save_npz` or `write_codes` wrote it, or the long form
            as a table (CSV, Parquet) with a row per subject and code.
        subject, code: Columns of the long form.
        digits: Group codes of the long form by their first characters; 3 for ICD-9.

    Returns:
        Codes, and the subjects in order.

    Raises:
        DataError: No such file, another ending, not a CSR matrix, or a column that is missing.
    """
    from scipy import sparse

    if not path.exists():
        raise DataError("codes", "no such file", path)
    if path.suffix != ".npz":
        frame = _frame(path)
        for name in (subject, code):
            if name not in frame.columns:
                raise DataError(
                    f"columns of subjects and codes ({', '.join(map(str, frame.columns[:9]))})",
                    repr(name), path, "Name them with data.subject and data.code.",
                )  # fmt: skip
        known = frame[frame[code].notna() & ~frame[code].isin(MISSING)]
        return rows_of_codes(known[subject].to_numpy(), known[code].to_numpy(), digits)
    try:
        matrix = sparse.load_npz(path)
        with np.load(path, allow_pickle=False) as file:
            names = tuple(map(str, file["names"])) if "names" in file else None
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError("a CSR matrix (scipy.sparse.save_npz)", str(error), path) from error
    names = names or tuple(f"code_{index:04d}" for index in range(matrix.shape[1]))
    return Codes(matrix, names), np.arange(matrix.shape[0])


def write_codes(path: Path, codes: Codes) -> None:
    """Write codes: `.npz` (scipy reads it; names stand beside), or the long form as a table.

    Raises:
        DataError: Another ending, or a disk that is full.
    """
    import pandas as pd

    matrix = codes.matrix
    if path.suffix == ".npz":
        with writing(path, overwrite=True) as beside, beside.open("wb") as file:
            np.savez_compressed(
                file, format=np.array(b"csr"), shape=np.array(matrix.shape),
                data=matrix.data, indices=matrix.indices, indptr=matrix.indptr,
                names=np.array(codes.names, str),
            )  # fmt: skip
        return
    if not path.name.lower().endswith(ENDINGS):
        raise DataError(f"codes (.npz, {', '.join(ENDINGS)})", repr(path.name), path)
    whole = matrix.tocoo()
    names = np.array(codes.names, object)[whole.col]
    frame = pd.DataFrame({"subject": whole.row + 1, "code": names})
    _write_frame(path, frame.loc[frame.index.repeat(whole.data)])


def rows_of_codes(
    subjects: np.ndarray, codes: np.ndarray, digits: int | None = None
) -> tuple[Codes, np.ndarray]:
    """The long form (a row per subject and code) as a matrix of counts.

    Args:
        subjects, codes: `(entries,)`.
        digits: Group codes by their first characters, 3 for ICD-9 (4 for its E codes).

    Returns:
        Codes, their names in order, and the subjects in order.

    Source:
        Choi et al., MedGAN (arXiv 1703.06490), section 4.1: ICD-9 codes grouped by three digits.
    """
    from scipy import sparse

    texts = [str(code) for code in codes]
    if digits is not None:
        texts = [t[: digits + (t[:1] == "E")] for t in texts]
    people, row = np.unique(subjects, return_inverse=True)
    names, column = np.unique(np.array(texts, object).astype(str), return_inverse=True)
    ones = np.ones(len(texts), np.int32)
    matrix = sparse.csr_matrix((ones, (row, column)), (len(people), len(names)), np.int32)
    return Codes(matrix, tuple(map(str, names))), people


def _frame(path: Path) -> "pd.DataFrame":
    """A frame as it stands in the file; CSV as text."""
    import pandas as pd

    if not path.name.lower().endswith(ENDINGS):
        raise DataError(f"a table ({', '.join(ENDINGS)})", repr(path.name), path)
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        separator = "\t" if path.suffix == ".tsv" else ","
        if separator == ",":
            _refuse_separated(path)
        _refuse_uneven(path, separator)
        whole: dict[str, Any] = {"dtype": str, "keep_default_na": False, "sep": separator}
        frame = pd.read_csv(path, encoding="utf-8-sig", header=None, **whole)
        frame.columns = pd.Index(frame.iloc[0].astype(str))
        return frame.iloc[1:].reset_index(drop=True)
    except UnicodeDecodeError as error:
        todo = "Convert it, for example with `iconv -f latin1 -t utf-8`."
        raise DataError("text in UTF-8", "another encoding", path, todo) from error
    except (ValueError, OSError, EOFError, zlib.error, csv.Error) as error:  # pandas' own, too
        raise DataError("a table", str(error).splitlines()[0], path) from error


def _refuse_separated(path: Path) -> None:
    """A heading without a comma, in which something else stands between columns.

    Raises:
        DataError: It is such a heading.
    """
    with _opened(path) as file:
        heading = file.readline()
    for mark, (word, todo) in SEPARATORS.items():
        if mark in heading and "," not in heading:
            raise DataError("commas between columns", word, path, todo)


def _refuse_uneven(path: Path, separator: str) -> None:
    """Rows with more or fewer values than the heading; pandas would fill short ones.

    Raises:
        DataError: The first such row.
    """
    with _opened(path) as file:
        csv.field_size_limit(LARGEST_TEXT)
        rows = csv.reader(file, delimiter=separator)
        wide = 0
        for row in rows:
            if not row or (len(row) == 1 and not row[0].strip()):
                continue  # a blank line
            wide = wide or len(row)
            if len(row) != wide:
                raise DataError(
                    f"{wide} values in each row", f"{len(row)} in line {rows.line_num}", path,
                    "Put texts that have a separator in them between quotation marks.",
                )  # fmt: skip


LARGEST_TEXT = 2**27
"""Characters of a value; the csv module gives up at 131,072 by itself."""


def _opened(path: Path) -> TextIO:
    """A text file, also a compressed one; what is no UTF-8 is told when it is parsed."""
    told: dict[str, Any] = {"encoding": "utf-8-sig", "errors": "replace", "newline": ""}
    return gzip.open(path, "rt", **told) if path.suffix.lower() == ".gz" else path.open(**told)


def _write_frame(path: Path, frame: "pd.DataFrame") -> None:
    with writing(path, overwrite=True) as beside:
        if path.suffix == ".parquet":
            frame.to_parquet(beside, index=False)
            return
        separator = "\t" if path.suffix == ".tsv" else ","
        text = frame.to_csv(None, index=False, sep=separator, lineterminator="\n").encode()
        beside.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)
