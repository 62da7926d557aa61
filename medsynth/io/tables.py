"""Tables on disk: CSV and Parquet, sparse matrices of codes, and the long form hospitals have."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from medsynth.core.frames import from_frame, to_frame
from medsynth.core.table import Schema, Table
from medsynth.errors import DataError
from medsynth.io.files import read_text, writing

ENDINGS = (".csv", ".csv.gz", ".tsv", ".parquet")


def read(path: Path, schema: Schema | None = None) -> Table:
    """Read a table.

    CSV is read as text, so that what a person wrote can be written again: missing marks, digits,
    leading zeros.

    Args:
        path: `.csv`, `.csv.gz`, `.tsv` or `.parquet`.
        schema: Declared columns; None infers all.

    Raises:
        DataError: No such file, another ending, not UTF-8, not a table; see `core.frames`.
    """
    import pandas as pd

    if not path.exists():
        raise DataError("a table", "no such file", path)
    if not path.name.lower().endswith(ENDINGS):
        raise DataError(f"a table ({', '.join(ENDINGS)})", repr(path.name), path)
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:
            separator = "\t" if path.suffix == ".tsv" else ","
            whole: dict[str, Any] = {"dtype": str, "keep_default_na": False, "sep": separator}
            frame = pd.read_csv(path, encoding="utf-8-sig", header=None, **whole)
            frame.columns = pd.Index(frame.iloc[0].astype(str))
            frame = frame.iloc[1:].reset_index(drop=True)
    except UnicodeDecodeError as error:
        todo = "Convert it, for example with `iconv -f latin1 -t utf-8`."
        raise DataError("text in UTF-8", "another encoding", path, todo) from error
    except (ValueError, OSError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError("a table", str(error).splitlines()[0], path) from error
    return from_frame(frame, schema)


def write(path: Path, table: Table) -> None:
    """Write a table, whole or not at all.

    Raises:
        DataError: Another ending, or a disk that is full.
    """
    frame = to_frame(table)
    if not path.name.lower().endswith(ENDINGS):
        raise DataError(f"a table ({', '.join(ENDINGS)})", repr(path.name), path)
    with writing(path, overwrite=True) as beside:
        if path.suffix == ".parquet":
            frame.to_parquet(beside, index=False)
            return
        separator = "\t" if path.suffix == ".tsv" else ","
        text = frame.to_csv(None, index=False, sep=separator, lineterminator="\n").encode()
        beside.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)


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


def rows_of_codes(
    subjects: np.ndarray, codes: np.ndarray, digits: int | None = None
) -> tuple[Any, tuple[str, ...], np.ndarray]:
    """The long form (a row per subject and code) as a matrix of counts.

    Args:
        subjects, codes: `(entries,)`.
        digits: Group codes by their first characters, 3 for ICD-9 (4 for its E codes).

    Returns:
        CSR matrix `(subjects, codes)` of int32 counts, code names in order, subjects in order.

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
    matrix.sum_duplicates()
    return matrix, tuple(map(str, names)), people
