"""Files that appear under their names only when they are whole.

The one piece of file handling that every layer shares; it neither reads nor interprets content.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write beside, then rename.

    Args:
        path: Where the file is to stand; its folder is made when missing.

    Yields:
        A path in the same folder to write to. When the block ends well the file takes its name
        by an atomic rename; when it fails or the process is killed, nothing stands under that name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 text file or nothing."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
