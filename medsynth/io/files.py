"""Bytes of files: gzipped or not, whole or not at all, and the system's errors in words.

Knows nothing of what the bytes mean. Reading goes through igzip, several times as fast as zlib
and outside of Python's lock; writing goes beside the file and is renamed at the end.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from isal import igzip, isal_zlib

from medsynth.core.paths import replacing
from medsynth.errors import DataError, UsageError

CHUNK = 1 << 18
"""Bytes decompressed at a time: they are still in the processor's cache when they are copied."""

MOST_PER_BYTE = 1032
"""No deflated byte stands for more than this (RFC 1951: 258 bytes by two bits)."""

DAMAGED = "Copy or download it again."


@contextmanager
def reading(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, decompressing when it is gzipped, whatever its name.

    Args:
        path: The file.

    Yields:
        A stream of its content.

    Raises:
        DataError: Missing, empty, damaged, not to be read, or named `.gz` without being gzipped.
    """
    try:
        with path.open("rb") as file:
            start = file.read(2)
            file.seek(0)
            if start == b"\x1f\x8b":
                with igzip.IGzipFile(fileobj=file) as opened:
                    yield opened
            elif not start:
                raise DataError("a file with content", "an empty one", path, DAMAGED)
            elif path.suffix.lower() == ".gz":
                todo = "Rename it if it is not compressed; else copy or download it again."
                raise DataError("a gzip file", "other bytes", path, todo)
            else:
                yield file
    except FileNotFoundError as error:
        raise DataError("a file", "none", path, "Check the path, or index the data again.") from (
            error
        )
    except IsADirectoryError as error:
        raise DataError("a file", "a folder", path) from error
    except (EOFError, igzip.BadGzipFile, isal_zlib.error) as error:  # type: ignore[misc]
        found = f"a truncated or damaged one ({error})"
        raise DataError("a whole gzip file", found, path, DAMAGED) from error
    except OSError as error:
        raise DataError("a file that can be read", f"{error.strerror or error}", path) from error


def fill(stream: IO[bytes], count: int, path: Path, start: bytes = b"") -> np.ndarray:
    """Read exactly so many bytes.

    Args:
        stream: As `reading` gives it.
        count: How many.
        path: The file behind it, for the message.
        start: What was read already and comes first in the result.

    Returns:
        uint8 `(len(start) + count,)`.

    Raises:
        DataError: There are fewer.
    """
    if count > MOST_PER_BYTE * path.stat().st_size:
        found = "a file too small to hold them: it is truncated"
        raise DataError(f"{count:,} bytes of voxels", found, path, DAMAGED)
    buffer = np.empty(len(start) + count, np.uint8)
    buffer[: len(start)] = np.frombuffer(start, np.uint8)
    view, at = buffer.data[len(start) :], 0
    while at < count:
        got = stream.readinto(view[at : at + CHUNK])  # type: ignore[attr-defined]
        if not got:
            found = f"{at:,}: the file is truncated"
            raise DataError(f"{count:,} bytes of voxels", found, path, DAMAGED)
        at += got
    return buffer


def read_text(path: Path, what: str) -> str:
    """Read a text file that a person wrote.

    Args:
        path: The file.
        what: What it should hold, for the messages, for example `"a recipe"`.

    Raises:
        UsageError: There is no such file, or it is not text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{what} (text in UTF-8)", "other bytes", path) from error
    except FileNotFoundError as error:
        raise UsageError(what, "no such file", path, "Check the path.") from error
    except OSError as error:
        raise UsageError(what, f"{error.strerror or error}", path) from error


@contextmanager
def writing(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Write beside a file, which appears under its name when the block ends well.

    Args:
        path: Where the file is to stand.
        overwrite: Replace a file that is there.

    Yields:
        The path to write to.

    Raises:
        DataError: The file exists, the disk is full, or the folder cannot be written to.
    """
    try:
        if path.exists() and not overwrite:
            todo = (
                "Give another name, remove it first, or replace it: --overwrite, where a command "
                "has it, `overwrite=True` in Python."
            )
            raise DataError("no file there yet", "one that exists", path, todo)
        with replacing(path) as beside:
            yield beside
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            todo = "Free some space and run the same command again: finished cases are kept."
            raise DataError("room on the disk", "none left", path, todo) from error
        found = f"{error.strerror or error}"
        raise DataError("a file that can be written", found, path) from error
