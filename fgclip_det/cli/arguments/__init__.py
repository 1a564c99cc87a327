"""What is typed behind ``fgclip-det``: a file for each command.

Light, so that ``--help`` and ``--version`` answer at once, and where nothing else imports.
"""

from __future__ import annotations

import argparse

import fgclip_det
from fgclip_det.cli.arguments import calibrate, demo, detect, heatmap, label, models, web
from fgclip_det.exit_codes import Parser


def build_parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    parser = Parser(prog="fgclip-det", description="Open-vocabulary detection with FG-CLIP.")
    parser.add_argument("--version", action="version", version=fgclip_det.__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (demo, detect, heatmap, label, models, calibrate, web):
        command.add_parser(commands)
    commands.add_parser("doctor", help="what works here, what does not, and how to mend it")
    return parser
