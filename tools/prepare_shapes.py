"""Generates (or checks) the Shapes benchmark."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# Last, so that it serves a clone that was not installed and never hides an installed package.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from fgclip_det.exit_codes import Parser, needed_packages, run_tool, say

with needed_packages():
    from fgclip_det.datasets.shapes import DEFAULT_SPLITS, EXTRA_SPLITS, check, generate


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/shapes"), help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random streams")
    for split, number in (DEFAULT_SPLITS | dict.fromkeys(EXTRA_SPLITS, 0)).items():
        option = f"--num-{split.replace('_', '-')}"
        parser.add_argument(option, type=int, default=number, help=f"pictures in {split}")
    parser.add_argument("--workers", type=int, default=2, help="processes; 0 works in this one")
    parser.add_argument("--check", action="store_true", help="verify what is there, write nothing")
    return parser.parse_args(argv)


def prepare(args: argparse.Namespace) -> None:
    """Makes or checks the pictures and files."""
    # Others are made where they are asked for, and checked where they are there.
    extra = {split: getattr(args, f"num_{split}") for split in EXTRA_SPLITS}
    if args.check:
        there = [split for split in extra if extra[split] or (args.out / split).exists()]
        check(args.out, [*DEFAULT_SPLITS, *there])
        say(f"{args.out} is complete")
        return
    splits = {split: getattr(args, f"num_{split}") for split in DEFAULT_SPLITS}
    splits |= {split: number for split, number in extra.items() if number}
    written = generate(args.out, splits, args.seed, args.workers)
    kept = [split for split in splits if split not in written]
    say(f"{args.out}: wrote {', '.join(written) or 'nothing'}; kept {', '.join(kept) or 'nothing'}")


def main(argv: list[str] | None = None) -> int:
    """Runs the tool; returns its exit code (2: the user can mend it)."""
    return run_tool(lambda: prepare(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
