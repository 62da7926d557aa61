"""What a person sees: progress bars on a terminal, plain lines in a log, tables."""

import json
import shlex
import shutil
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, TypeVar

from medsynth.core.words import plural

T = TypeVar("T")
EVERY_S = 20.0


def say(text: str = "") -> None:
    """One line for a person; on standard error, so that `--json` stays readable by a script."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def telling() -> Iterator[None]:
    """Let the package's own warnings read like all that it says: without file and line."""
    before, package = warnings.showwarning, str(Path(__file__).parents[1])

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if filename.startswith(package):
            say(f"warning: {message}")
        else:
            before(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


def program() -> str:
    """How to call this program: by its name where the shell finds it under that, else as it was
    called, or by its interpreter."""
    called, found = Path(sys.argv[0]), shutil.which("medsynth")
    if called.stem != "medsynth":  # python -m medsynth, a script, a notebook
        return f"{shlex.quote(sys.executable)} -m medsynth"
    same = found and Path(found).resolve() == called.resolve()
    return "medsynth" if same else shlex.quote(str(called))


def answer(data: Any) -> None:
    """The result, for a script."""
    print(json.dumps(data, indent=2, sort_keys=True, default=str), flush=True)


def summary(verb: type) -> str:
    """The first line of a verb's docstring."""
    return (verb.__doc__ or "").splitlines()[0]


def progress(
    items: Iterable[T], total: int, title: str, unit: str = "case", *, leave: bool = True
) -> Iterator[T]:
    """Pass items through, showing how far the work is.

    A bar on a terminal, which stays there when it is done unless it is part of another one
    (`leave`); in a log a line at the start, every 20 seconds and at the end.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=title, unit=unit, dynamic_ncols=True, leave=leave)
        return
    begun = last = time.monotonic()
    done = 0
    say(f"{title}: {plural(total, unit)}")
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= EVERY_S and done < total:
            last = now
            left = (now - begun) / done * (total - done)
            say(f"{title}: {done}/{total}, {left:.0f} s left")
    say(f"{title}: {done}/{total} in {time.monotonic() - begun:.0f} s")


def section(measured: Any, page: Path, as_json: bool) -> None:
    """Verdicts and tables of a report's section, and where the page is."""
    marks = {"good": "+", "bad": "!", "unknown": "?"}
    say()
    say(measured.title)
    for verdict in measured.verdicts:
        say(f"  {marks[verdict.grade]} {verdict.text}")
    say("  (+ good, ! bad, ? cannot be told)")
    say()
    say(f"→ {page}")
    if as_json:
        answer([record.to_json() for record in measured.records])


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A plain-text table, columns aligned."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
