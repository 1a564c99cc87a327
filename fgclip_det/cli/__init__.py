"""The command ``fgclip-det``."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

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
        # Of each command there is a module of its name.
        command = importlib.import_module(f"fgclip_det.cli.{arguments.command}")
        with notes():
            return command.run(arguments)

    return run_tool(run)
