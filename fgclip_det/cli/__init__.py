"""The command ``fgclip-det``."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from fgclip_det.cli.arguments import build_parser
from fgclip_det.exit_codes import notes, run_tool


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code, see `exit_codes`."""

    def run() -> int:
        arguments = build_parser().parse_args(argv)
        # Imported late: --help and --version answer at once, and where nothing else imports.
        if arguments.command == "doctor":
            from fgclip_det.apis.doctor import doctor

            return doctor()
        from fgclip_det.io import without_bars

        # Of each command there is a module of its name.
        command = _import(f"fgclip_det.cli.{arguments.command}")
        with notes(), without_bars(getattr(arguments, "quiet", False)):
            return command.run(arguments)

    return run_tool(run)


def _import(name: str) -> ModuleType:
    """Import a command.

    What the imports make, hundreds of thousands of objects, stays. Looking through them for
    garbage, again and again, would be a fifth of the time to the first picture.
    """
    if name in sys.modules:
        return sys.modules[name]
    collects = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        if collects:
            gc.enable()
