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

from medsynth import __version__
from medsynth.commands import (
    check,
    demo,
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

VERBS = (demo, phantom, index, check, tissue, resample, edit, train, generate, evaluate, show)

DESCRIPTION = """\
Synthetic brain MRI from editable tumour label maps.

Start here:
  medsynth demo                              see the whole thing on phantoms, no data needed
With your own BraTS folder:
  medsynth index DATA --scheme brats2021 --split training=0.7,test=0.3 -o cohort.json
  medsynth check cohort.json
  medsynth tissue cohort.json -o tissue
  medsynth resample tissue/cohort.json -o real
  medsynth train configs/image/phantom.yaml --set data.cohort=real/cohort.json --out run
  medsynth edit real/cohort.json -o edited --recipe configs/edit/random.yaml
  medsynth generate run edited/cohort.json -o synthetic
"""


def parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    top = argparse.ArgumentParser(
        prog="medsynth",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"medsynth {__version__}")
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)
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
    try:
        parsed = parser().parse_args(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    try:
        with _terminated_like_interrupted():
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
        words = shlex.join(["medsynth", *(sys.argv[1:] if arguments is None else arguments)])
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
