"""The command line: parses, dispatches, and turns errors into messages and exit codes.

Exit codes: 0 done; 1 the data are at fault; 2 the command line or configuration is; 130 and 143
stopped by Ctrl-C or SIGTERM.
"""

import argparse
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches

from medsynth import __version__
from medsynth.commands import (
    check,
    console,
    demo,
    doctor,
    edit,
    evaluate,
    generate,
    index,
    phantom,
    resample,
    show,
    tissue,
    train,
)
from medsynth.errors import Interrupted, MedsynthError
from medsynth.training.memory import keep_freed_memory

GROUPS = {
    "start": (demo, doctor),
    "prepare": (phantom, index, check, tissue, resample, edit),
    "make": (train, generate),
    "measure": (evaluate, show),
}
"""Verbs in the order in which a person meets them."""

VERBS = tuple(module for group in GROUPS.values() for module in group)

HEAD = "medsynth: draw a tumour, get four MRI volumes"

TAIL = """\
Start here, no data needed: all of it in minutes
  medsynth demo --out demo
or first scans in seconds, by `phantom`, a model that comes along
  medsynth phantom people --cases 1 --seed 1
  medsynth generate phantom people -o scans
With a BraTS folder: index, check, tissue, train, edit, generate, evaluate;
the README has the lines. `medsynth VERB --help` explains a verb.
"""


class _Top(argparse.ArgumentParser):
    """The program itself: its help is a page of verbs in groups."""

    def format_help(self) -> str:
        """One line for each verb, as its module says it."""
        (verbs,) = (a for a in self._actions if isinstance(a, argparse._SubParsersAction))
        lines = {choice.dest: choice.help for choice in verbs._choices_actions}
        parts = [HEAD]
        for title, modules in GROUPS.items():
            names = [module.__name__.rpartition(".")[2] for module in modules]
            parts.append("\n".join([title, *(f"  {n:<9} {lines[n]}" for n in names)]))
        return "\n\n".join([*parts, TAIL])

    def _check_value(self, action: argparse.Action, value: str) -> None:
        """Say which verb was meant, where one is near; verbs are all that it has to choose from."""
        if action.choices is None or value in action.choices:
            return
        near = get_close_matches(value, action.choices, 1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise argparse.ArgumentError(
            None, f"there is no verb {value!r}{meant} (`medsynth --help` lists them)"
        )


def parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    top = _Top(prog="medsynth", usage="medsynth VERB …")
    top.add_argument("--version", action="version", version=f"medsynth {__version__}")
    verbs = top.add_subparsers(
        title="verbs",
        prog="medsynth",
        metavar="VERB",
        required=True,
        parser_class=argparse.ArgumentParser,
    )
    for module in VERBS:
        module.add(verbs)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Command line without the program's name; None takes the process's.

    Returns:
        The exit code.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if not given:
        print(parser().format_help(), end="")
        return 2
    try:
        parsed = parser().parse_args(given)
    except SystemExit as stop:
        return int(stop.code or 0)
    try:
        with _terminated_like_interrupted(), console.telling():
            keep_freed_memory()
            return int(parsed.make(parsed).run())
    except MedsynthError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return stop.exit_code
    except OSError as error:  # a full disk, a folder without permission
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        words = shlex.join(["medsynth", *given])
        print(f"stopped; the same command goes on where it was: {words}", file=sys.stderr)
        return 143 if isinstance(stop, _Terminated) else 130


class _Terminated(KeyboardInterrupt):
    """SIGTERM, the time limit of a cluster: the same as Ctrl-C, but for the exit code."""


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, with words on how to go on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def entry() -> None:
    """The `medsynth` program."""
    sys.exit(main())
