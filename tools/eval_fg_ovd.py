"""Scores any detector's predictions for a file of FG-OVD, as the official scripts do.

Predictions are JSON (`fgclip_det.fg_ovd.predictions` tells the format) or, with
`--trust-pickle`, what the official inference scripts write.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# Last, so that it serves a clone that was not installed and never hides an installed package.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from fgclip_det.exit_codes import Parser, needed_packages, run_tool, say

with needed_packages():
    from fgclip_det.compat import decode_tensor
    from fgclip_det.engine import check_target
    from fgclip_det.fg_ovd import (
        read_fg_ovd,
        read_official_predictions,
        read_predictions,
        read_scorer,
        summarize,
    )
    from fgclip_det.io import write_json


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("annotations", help="JSON of FG-OVD")
    parser.add_argument("predictions", type=Path, help=".json, .json.gz, or an official pickle")
    parser.add_argument("--n-negatives", type=int, help="as many as predictions have by default")
    parser.add_argument("--sweep", action="store_true", help="also each smaller number")
    parser.add_argument("--strict", action="store_true", help="what is missing was not found")
    parser.add_argument("--words", action="store_true", help="also what is mistaken for what")
    parser.add_argument("--validation", help="the subset's validation JSON: adds a text-only row")
    parser.add_argument("--trust-pickle", action="store_true", help="read an official pickle")
    parser.add_argument("--out", type=Path, help="JSON; beside the predictions by default")
    return parser.parse_args(argv)


def evaluate(args: argparse.Namespace) -> None:
    """Prints the tables and writes the JSON."""
    out = args.out or args.predictions.with_name(f"{args.predictions.name}.scores.json")
    check_target(out, args.annotations, args.predictions, args.validation or args.annotations)
    if args.trust_pickle and args.predictions.name.endswith((".json", ".json.gz")):
        raise ValueError(f"{str(args.predictions)!r} is JSON: leave out --trust-pickle")
    if not args.trust_pickle and args.predictions.suffix in (".pkl", ".pickle"):
        raise ValueError(
            f"{str(args.predictions)!r} is a pickle: an official one needs --trust-pickle"
        )
    file = read_fg_ovd(args.annotations)
    scorer = None
    if args.validation:
        scorer = read_scorer(args.validation, args.annotations, progress=True)
    given = (
        read_official_predictions(
            args.predictions, file, args.n_negatives, decode_tensor=decode_tensor
        )
        if args.trust_pickle
        else read_predictions(args.predictions)
    )
    summary = summarize(
        file,
        given,
        given.n_negatives if args.n_negatives is None else args.n_negatives,
        strict=args.strict,
        sweep=args.sweep,
        words=args.words,
        scorer=scorer,
        progress=args.sweep,
    )
    name = args.predictions.name
    values = {"annotations": args.annotations, "predictions": str(args.predictions)}
    values |= summary.values
    values["results"] = {name: values.pop("result"), **values.pop("references")}
    write_json(out, values)
    say(*summary.page(name).split("\n"))


def main(argv: list[str] | None = None) -> int:
    """Runs the tool; returns its exit code (2: the user can mend it)."""
    return run_tool(lambda: evaluate(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
