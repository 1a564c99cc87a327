"""What is typed behind ``fgclip-det heatmap``."""

from __future__ import annotations

import argparse

from fgclip_det.cli.arguments.common import add_common_arguments


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    heatmap = commands.add_parser(
        "heatmap",
        help="show where in pictures an encoder sees what a text says",
        description="Show where in pictures an encoder sees what a text says; writes "
        "OUT/heatmaps/*.png, one grid for each picture, and the numbers as *.npz. Without pictures "
        "and texts it shows the bundled ones.",
    )
    add_common_arguments(heatmap)
    heatmap.add_argument(
        "--image-size", type=int, metavar="PX", help="longer side (default: the encoder's own size)"
    )
    heatmap.add_argument("--max-patches", type=int, help="FG-CLIP 2: patches instead of pixels")
    heatmap.add_argument(
        "--box-cells",
        type=int,
        nargs="+",
        default=(3, 5, 7),
        metavar="N",
        help="sides of the boxes that are compared, in patches (default: 3 5 7; 1: bare patches)",
    )
    heatmap.add_argument(
        "--scale",
        choices=("shared", "text"),
        default="shared",
        help="one scale of colours for all texts, or each its own (default: shared)",
    )
