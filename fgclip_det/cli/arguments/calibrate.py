"""What is typed behind ``fgclip-det calibrate``."""

from __future__ import annotations

import argparse

from fgclip_det.cli.arguments.common import (
    PRESETS,
    add_device_arguments,
    add_weights,
    add_words,
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    calibrate = commands.add_parser(
        "calibrate",
        help="make scores mean something, and bound false alarms",
        description="Look into pictures whose truth is known, and write what the detector's "
        "confidences mean and the least confidence of each name that keeps a bound on its false "
        "alarms. With --truth and --risk the meaning is of one half of the pictures, the bound of "
        "the other; with --absent, or beside --calibration, there is the bound alone.",
    )
    calibrate.add_argument("pictures", nargs="+", metavar="PICTURE", help="pictures or folders")
    add_words(calibrate, required=True)
    known = calibrate.add_mutually_exclusive_group(required=True)
    known.add_argument(
        "--truth",
        metavar="FILE",
        help="COCO-style annotations of all that is named, in pictures of one folder",
    )
    known.add_argument(
        "--absent", action="store_true", help="nothing that is named is in any of the pictures"
    )
    _add_goal(calibrate)
    calibrate.add_argument(
        "--out", required=True, metavar="FILE", help="calibration to write, .json"
    )
    calibrate.add_argument(
        "--calibration", metavar="FILE", help="one that gets thresholds of more names"
    )
    calibrate.add_argument(
        "--save-vocabulary",
        metavar="FILE",
        help="also write what was asked for with its thresholds, to ask for it again with the same "
        "calibration: .json, or .safetensors with its embeddings",
    )
    _add_detector(calibrate)
    calibrate.add_argument(
        "--conf-thr",
        type=float,
        metavar="X",
        help="least confidence of what is reported, whatever a bound allows (default: 0.5, or that "
        "of --calibration)",
    )
    calibrate.add_argument(
        "--features", metavar="A,B", help="what the curve is fitted to (default: all there is)"
    )
    calibrate.add_argument(
        "--prior",
        type=float,
        metavar="SHARE",
        help="how often what is asked for will be there (default: as often as in these pictures)",
    )
    calibrate.add_argument("--seed", type=int, default=0, help="of the halves (default: 0)")
    calibrate.add_argument("--batch-size", type=int, default=1, help="pictures at once")
    calibrate.add_argument("--quiet", action="store_true", help="no progress bar, no summary")


def _add_detector(calibrate: argparse.ArgumentParser) -> None:
    calibrate.add_argument(
        "--results",
        metavar="FILE",
        help="boxes of another detector in COCO's form, as tools/rescore.py reads them, in place "
        "of a detector; with --truth and --encoder",
    )
    choice = calibrate.add_mutually_exclusive_group()
    choice.add_argument("--preset", choices=PRESETS, help="detector (default: default)")
    choice.add_argument("--model", metavar="CONFIG", help="config of a detector, or bundled")
    add_weights(calibrate)
    add_device_arguments(calibrate)


def _add_goal(calibrate: argparse.ArgumentParser) -> None:
    calibrate.add_argument(
        "--risk", type=float, help="bound of a name's false alarms, such as 0.1 of the pictures"
    )
    calibrate.add_argument(
        "--delta",
        type=float,
        default=0.1,
        help="chance that a bound does not hold, of all names together (default: 0.1)",
    )
    calibrate.add_argument(
        "--kind",
        choices=("pictures", "alarms"),
        default="pictures",
        help="bound the share of pictures with a false alarm, or the mean number of false alarms "
        "in a picture (default: pictures)",
    )
    calibrate.add_argument(
        "--clip",
        type=int,
        metavar="N",
        help="of --kind alarms: more of a picture are counted as N (default: 5)",
    )
