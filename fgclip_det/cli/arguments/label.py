"""What is typed behind ``fgclip-det label``."""

from __future__ import annotations

import argparse

from fgclip_det.cli.arguments.common import (
    PRESETS,
    add_device_arguments,
    add_scores,
    add_weights,
    add_words,
)

_FORMATS = ("coco", "yolo", "labelstudio", "cvat")


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    label = commands.add_parser(
        "label",
        help="label a folder of pictures for training",
        description="Label the pictures in and below a folder with what a text names; writes a "
        "folder for each format, the page OUT/review/index.html of the least certain labels, and "
        "OUT/manifest.json. Run again with the same settings it goes on where it was cut off.",
    )
    label.add_argument("folder", metavar="FOLDER", help="folder of the pictures")
    add_words(label, required=True)
    add_scores(label)
    label.add_argument(
        "--format",
        dest="formats",
        action="append",
        choices=_FORMATS,
        help="may be repeated (default: coco)",
    )
    label.add_argument("--out", required=True, metavar="DIR", help="where all is written")
    choice = label.add_mutually_exclusive_group()
    choice.add_argument("--preset", choices=PRESETS, help="detector (default: default)")
    choice.add_argument("--model", metavar="CONFIG", help="config of a detector, or bundled")
    add_weights(label)
    add_device_arguments(label)
    label.add_argument(
        "--thresholds",
        action="append",
        default=[],
        metavar="NAME=X|FILE",
        help="least confidence, or score where there are none, of a name, or a JSON file of such; "
        "may be repeated",
    )
    label.add_argument(
        "--iou",
        type=float,
        default=0.6,
        help="boxes that overlap by more are one object, whatever their names (default: 0.6)",
    )
    label.add_argument("--val-share", type=float, default=0.1, help="(default: 0.1)")
    label.add_argument("--seed", type=int, default=0, help="of the split (default: 0)")
    label.add_argument(
        "--review", type=int, default=100, metavar="N", help="labels on the page (default: 100)"
    )
    label.add_argument("--batch-size", type=int, default=1, help="pictures at once (default: 1)")
    label.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
