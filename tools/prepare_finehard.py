"""Makes tar shards, in WebDataset's layout, of FineHARD's annotation files and pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# Last, so that it serves a clone that was not installed and never hides an installed package.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from fgclip_det.exit_codes import Parser, needed_packages, run_tool, say

with needed_packages():
    from fgclip_det.datasets.finehard import prepare_shards


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "annotations", type=Path, help="annotation file, or folder of *.json and *.jsonl"
    )
    parser.add_argument("images", type=Path, help="folder that f_path is relative to")
    parser.add_argument("out", type=Path, help="folder of the shards; a run cut off goes on there")
    parser.add_argument(
        "--items-per-shard", type=int, default=5000, help="items a shard is made of (5000)"
    )
    return parser.parse_args(argv)


def prepare(args: argparse.Namespace) -> None:
    """Makes the shards that are not there yet, and says what was left out."""
    index = prepare_shards(args.annotations, args.images, args.out, args.items_per_shard)
    shards = len(index["shards"])
    say(f"{args.out}: {index['items']} items in {shards} shards, {index['made']} of them new")
    for kind, number in sorted(index["left_out"].items()):
        say(f"left out: {number} x {kind}")
    if not index["items"]:
        raise ValueError("no item can be used: are these FineHARD's annotation files?")


def main(argv: list[str] | None = None) -> int:
    """Runs the tool; returns its exit code (2: the user can mend it)."""
    return run_tool(lambda: prepare(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
