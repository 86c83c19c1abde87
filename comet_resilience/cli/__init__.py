"""The command line: ``comet-resilience`` or ``python -m comet_resilience``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .. import __version__
from ..escaping import printable
from . import doctor, explain, saturation

_EPILOG = "Begin with: comet-resilience doctor, or comet-resilience explain --help"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the process's exit status."""
    parser = argparse.ArgumentParser(
        prog="comet-resilience",
        description="Find out why calls to CometAPI, or to a gateway of its kind, fail.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    doctor.add_to(commands)
    explain.add_to(commands)
    saturation.add_to(commands)
    given = parser.parse_args(arguments)
    try:
        return int(given.run(given))
    except BrokenPipeError:  # the reader of our output has closed it
        sys.stdout = None
        return 0
    except (ValueError, OSError) as error:
        print(f"comet-resilience: {printable(str(error))}", file=sys.stderr)
        return 2
