"""What is typed behind ``fgclip-det demo``."""

from __future__ import annotations

import argparse

from fgclip_det.cli.arguments.common import add_common_arguments, add_scores, add_weights


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    demo = commands.add_parser(
        "demo",
        help="detect what a text names in pictures",
        description="Detect what a text names in pictures; writes OUT/vis/*.png and OUT/preds/"
        "*.json, named as the pictures. Without pictures and texts it shows the bundled ones.",
    )
    add_common_arguments(demo)
    add_scores(demo, one_name=True)
    demo.add_argument("--model", metavar="CONFIG", help="config of a detector (default: bundled)")
    add_weights(demo)
    demo.add_argument("--batch-size", type=int, default=1, help="pictures at once (default: 1)")
    demo.add_argument("--no-save-vis", action="store_true", help="write the JSON files only")
