"""Makes (or checks) the annotation files of OV-COCO from those of COCO 2017."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# Last, so that it serves a clone that was not installed and never hides an installed package.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from fgclip_det.exit_codes import Parser, needed_packages, run_tool, say

with needed_packages():
    from fgclip_det.datasets.prepare import PROTOCOLS, check_files, ov_coco_files, write_files


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--coco",
        type=Path,
        default=Path("data/coco"),
        help="folder with annotations/instances_{train,val}2017.json",
    )
    parser.add_argument(
        "--protocol",
        type=int,
        choices=PROTOCOLS,
        help="65: 65-way, one file to test on; 80: 80-way, base and novel files; both if not given",
    )
    parser.add_argument("--out", type=Path, help="folder to write to; COCO/annotations by default")
    parser.add_argument(
        "--images",
        type=Path,
        help="folder with train2017/ and val2017/: make sure that no listed image is missing",
    )
    parser.add_argument("--check", action="store_true", help="verify what is there, write nothing")
    return parser.parse_args(argv)


def prepare(args: argparse.Namespace) -> None:
    """Makes or checks the files and prints what each holds."""
    protocols = PROTOCOLS if args.protocol is None else [args.protocol]
    files = ov_coco_files(args.coco, protocols, args.images)
    run = check_files if args.check else write_files
    for summary in run(args.out or args.coco / "annotations", files):
        say(summary)
    say("all files are as they should be" if args.check else "all files are written")


def main(argv: list[str] | None = None) -> int:
    """Runs the tool; returns its exit code (2: the user can mend it)."""
    return run_tool(lambda: prepare(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
