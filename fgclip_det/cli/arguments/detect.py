"""What is typed behind ``fgclip-det detect``."""

from __future__ import annotations

import argparse

from fgclip_det.cli.arguments.common import (
    PRESETS,
    add_device_arguments,
    add_exemplars,
    add_scores,
    add_weights,
    add_words,
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    detect = commands.add_parser(
        "detect",
        help="detect what a text names in photographs",
        description="Detect what a text names in photographs; writes OUT/vis/*.png, OUT/preds/"
        "*.json, named as the pictures, and all results as OUT/results.jsonl.",
    )
    detect.add_argument("images", nargs="+", metavar="PICTURE", help="pictures, folders, videos")
    add_words(detect)
    add_exemplars(detect)
    add_scores(detect, one_name=False)
    _add_detector(detect)
    detect.add_argument("--batch-size", type=int, default=1, help="pictures at once (default: 1)")
    _add_inputs(detect)
    _add_outputs(detect)


def _add_detector(detect: argparse.ArgumentParser) -> None:
    which = detect.add_mutually_exclusive_group()
    which.add_argument(
        "--preset", choices=PRESETS, default=PRESETS[0], help="ready detector (default: default)"
    )
    which.add_argument(
        "--model", metavar="CONFIG", help="config of a detector of your own, or bundled"
    )
    add_weights(detect)
    add_device_arguments(detect)


def _add_inputs(detect: argparse.ArgumentParser) -> None:
    detect.add_argument(
        "--recursive",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="look into folders below a folder too (default)",
    )
    detect.add_argument("--tile", type=int, metavar="PX", help="look into tiles of large pictures")
    detect.add_argument(
        "--overlap", type=float, metavar="SHARE", help="of neighbouring tiles (default: 0.2)"
    )
    detect.add_argument("--every", type=int, default=1, metavar="N", help="of a video: each Nth")
    detect.add_argument("--no-track", action="store_true", help="of a video: frames by themselves")


def _add_outputs(detect: argparse.ArgumentParser) -> None:
    detect.add_argument(
        "--out-dir", metavar="DIR", help="(default: outputs; with --json no files are written)"
    )
    detect.add_argument("--masks", action="store_true", help="outline what the boxes hold too")
    detect.add_argument(
        "--labels",
        choices=("off", "short", "full"),
        default="full",
        help="what drawings say of a box: nothing, its name, or its number too (default: full)",
    )
    detect.add_argument("--no-save-vis", action="store_true", help="write the JSON files only")
    detect.add_argument(
        "--json", action="store_true", help="print results as JSON lines, and nothing else"
    )
    detect.add_argument("--quiet", action="store_true", help="print nothing but what went wrong")
