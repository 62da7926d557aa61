"""The command line: parses, dispatches, and turns errors into messages and exit codes.

Exit codes: 0 done; 1 the data are at fault; 2 the command line or configuration is; 130 and 143
stopped by Ctrl-C or SIGTERM.
"""

import argparse
import sys
from collections.abc import Sequence

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
  medsynth index DATA --scheme brats2021 -o cohort.json
  medsynth check cohort.json
  medsynth tissue cohort.json -o tissue
  medsynth train configs/image/brats.yaml --set data.cohort=tissue/cohort.json --out run
  medsynth edit LABEL -o edited.nii.gz --op mirror --op scale:1.16
  medsynth generate run edited.nii.gz -o synthetic
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
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 130


def entry() -> None:
    """The `medsynth` program."""
    sys.exit(main())
