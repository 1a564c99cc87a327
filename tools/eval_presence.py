"""Ask for what is there, what is not, and what nearly is, one name at a time.

python tools/eval_presence.py bundled --tune data/shapes/annotations/presence_val_presence.json \
data/shapes/presence_val --test data/shapes/annotations/presence_test_presence.json \
data/shapes/presence_test --out presence.json --diagram reliability.png

The threshold is fixed on the pictures of --tune, such that this share of what is there is reported;
all figures are of those of --test. See docs/presence.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# Last, so that it serves a clone that was not installed and never hides an installed package.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from fgclip_det.exit_codes import Parser, needed_packages, run_tool, say

with needed_packages():
    from fgclip_det.apis import OpenVocabInferencer
    from fgclip_det.apis.presence import VALUES, check_diagram, evaluate_presence, write_diagram
    from fgclip_det.engine import check_target
    from fgclip_det.evaluation.presence import presence_page
    from fgclip_det.io import write_json

QUERIES = {"nargs": 2, "required": True, "metavar": ("QUERIES.json", "IMAGES")}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="config file, a preset such as photos, or bundled")
    parser.add_argument("checkpoint", nargs="?", help=".pth or .safetensors, if one is needed")
    parser.add_argument("--tune", **QUERIES, help="queries that the threshold is fixed on")
    parser.add_argument("--test", **QUERIES, help="queries that all figures are of")
    parser.add_argument("--vocabulary", help="what is said or shown for each text of the queries")
    parser.add_argument("--recall", type=float, default=0.95, help="share of what is there")
    parser.add_argument("--value", choices=VALUES, help="the first that the detector has if unset")
    parser.add_argument("--batch-size", type=int, default=8, help="pictures in a batch")
    parser.add_argument("--device", help="such as cpu or cuda:0")
    parser.add_argument("--out", type=Path, help="JSON to write")
    parser.add_argument("--diagram", type=Path, help="PNG of the reliability diagram")
    return parser.parse_args(argv)


def evaluate(args: argparse.Namespace) -> None:
    """Prints the table and writes the files."""
    if args.out:
        check_target(args.out, args.tune[0], args.test[0])
    if args.diagram:
        check_diagram(args.diagram)
    model = None if args.config == "bundled" else args.config
    detector = OpenVocabInferencer(model, args.checkpoint, device=args.device)
    summary = evaluate_presence(
        detector,
        args.tune,
        args.test,
        args.recall,
        args.value,
        args.batch_size,
        needs_shares=args.diagram is not None,
        vocabulary=args.vocabulary,
    )
    if args.out:
        write_json(args.out, {"model": args.config, "checkpoint": args.checkpoint, **summary})
    if args.diagram:
        write_diagram(summary, args.diagram)
    title = f"One name at a time, its {summary['value']}."
    say(*presence_page(summary, title).split("\n"))


def main(argv: list[str] | None = None) -> int:
    """Runs the tool; returns its exit code (2: the user can mend it)."""
    return run_tool(lambda: evaluate(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
