"""Evaluate a detector on the subsets of FG-OVD, with one look at each picture.

python tools/test_fg_ovd.py configs/fg_ovd/ovdet_fgclip_b_640_hard.py epoch_3.pth --subsets all

Prints one table, and writes fg_ovd.json and fg_ovd.md into the work dir. A run that was cut off
goes on where it was; what was asked once is not asked again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Last, so that it serves a clone that was not installed and never hides an installed package.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from fgclip_det.apis import load_detector, resolve_device
from fgclip_det.apis.fg_ovd.report import read_scorers, score_subset, write_report
from fgclip_det.apis.fg_ovd.run import run_subsets
from fgclip_det.apis.fg_ovd.sheets import write_sheet
from fgclip_det.apis.fg_ovd.subsets import find_subsets
from fgclip_det.engine import ConfigOptionsAction, read_config
from fgclip_det.exit_codes import run_tool
from fgclip_det.fg_ovd.predictions import write_predictions

NEEDS = ("model", "test_dataloader")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="one of configs/fg_ovd; other subsets lie beside its own")
    parser.add_argument("checkpoint", help="checkpoint file, .pth or .safetensors")
    parser.add_argument("--subsets", default="all", help="all that are there, or hard,medium,...")
    parser.add_argument("--n-negatives", type=int, help="the published numbers by default")
    parser.add_argument("--sweep", action="store_true", help="also each smaller number")
    parser.add_argument("--strict", action="store_true", help="what is missing was not found")
    parser.add_argument("--skip-missing", action="store_true", help="go on without lost pictures")
    parser.add_argument("--validation", help="folder of validation sets: adds text-only rows")
    parser.add_argument("--predictions", type=Path, help="folder for files of predictions")
    parser.add_argument("--sheets", type=int, default=0, help="objects on each contact sheet")
    parser.add_argument("--work-dir", help="folder for what is written")
    parser.add_argument("--device", help="such as cpu or cuda:0")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=ConfigOptionsAction,
        help="override settings: key.sub=value",
    )
    return parser.parse_args(argv)


def evaluate(args: argparse.Namespace) -> None:
    config = read_config(args.config, args.cfg_options, args.work_dir, NEEDS)
    if args.predictions and args.predictions.is_file():
        raise ValueError(f"--predictions {str(args.predictions)!r} is a file: name a folder")
    if args.predictions:
        args.predictions.mkdir(parents=True, exist_ok=True)
    if args.sheets < 0:
        raise ValueError(f"--sheets is {args.sheets}: give a number from 0")
    work_dir = Path(config.work_dir)
    subsets, left_out = find_subsets(
        config.test_dataloader.dataset,
        args.subsets,
        args.n_negatives,
        sweep=args.sweep,
        skip_missing=args.skip_missing,
    )
    scorers = read_scorers(subsets, args.validation) if args.validation else {}
    detector = load_detector(config, args.checkpoint)[0].to(resolve_device(args.device)).eval()
    found = run_subsets(detector, subsets, config, work_dir / "predictions")
    results = {}
    for subset in subsets:
        name, number, predictions = subset.name, subset.n_negatives, found[subset.name]
        options = {"strict": args.strict, "sweep": args.sweep}
        results[name] = score_subset(
            subset, predictions, detector.encoder, scorers.get(name), **options
        )
        if args.predictions:
            path = args.predictions / f"{name}_n{number}.json"
            write_predictions(path, predictions[number], number)
        if args.sheets:
            write_sheet(work_dir / "sheets" / name, subset, predictions[number], args.sheets)
    about = {"config": args.config, "checkpoint": args.checkpoint}
    print(write_report(work_dir, about, results, left_out))
    print(f"\nwritten to {work_dir}: fg_ovd.json, fg_ovd.md" + ", sheets/" * bool(args.sheets))


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    return run_tool(lambda: evaluate(args), args.cfg_options)


if __name__ == "__main__":
    sys.exit(main())
