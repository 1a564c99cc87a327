"""Compares `evaluate_fg_ovd` with what the official evaluator said of the same predictions.

The folder has, for each NAME, annotations in NAME.json, predictions in NAME_predictions.npz
(``ann_id`` (A,), ``boxes`` (A, B, 4) xyxy, ``scores`` (A, B, 1 + N)) and the official answers in
NAME_expected.json.

    python benchmarks/fg_ovd_parity.py ../shared/fgovd --out benchmarks/results/fg_ovd_parity.md
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report
from fgclip_det.evaluation import evaluate_fg_ovd
from fgclip_det.exit_codes import run_tool

SCORES = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large")
SCORES += ("mar_1", "mar_10", "mar_100")
# By the official name of a rank's statistic, ours.
RANKS = {"median_rank_official": "median_official", "mean_rank": "mean", "hist": "histogram"}
# The official answers are float32, and come out of it with five digits that count.
TOLERANCE = 1e-5


def compare(folder: Path, name: str) -> dict[str, tuple[Any, Any]]:
    """Official and own value of everything that is told of a file of annotations."""
    expected = json.loads((folder / f"{name}_expected.json").read_text(encoding="utf-8"))
    arrays = np.load(folder / f"{name}_predictions.npz")
    predictions = zip(arrays["ann_id"], arrays["boxes"], arrays["scores"], strict=True)
    found = evaluate_fg_ovd(folder / f"{name}.json", predictions, expected["n_negatives"])
    ours = {**{key: found[key] for key in SCORES}, "images": found["n_images"]}
    ours["vocabularies"] = found["coverage"]["evaluated"]
    theirs = {**expected, "images": expected["n_images"], **expected["ranks"]}
    ours |= {key: found["ranks"][own] for key, own in RANKS.items()}
    return {key: (theirs[key], value) for key, value in ours.items()}


def differs(official: Any, own: Any) -> bool:
    """True if floats differ by more than the tolerance, or counts and ranks at all."""
    if isinstance(official, float):
        return not abs(official - own) <= TOLERANCE
    return official != own


def page(compared: Mapping[str, Mapping[str, tuple[Any, Any]]]) -> str:
    """A table with both values and their difference."""
    rows = [
        [f"{name}, {key}", *map(_text, pair), _difference(*pair)]
        for name, values in compared.items()
        for key, pair in values.items()
    ]
    return report.table(["", "official", "`evaluate_fg_ovd`", "difference"], rows)


def _text(value: Any) -> str:
    return f"{value:.7f}" if isinstance(value, float) else str(value).replace(",", "")


def _difference(official: Any, own: Any) -> str:
    if isinstance(official, float):
        return f"{abs(official - own):.0e}"
    return "none" if official == own else "DIFFERENT"


def main(argv: list[str] | None = None) -> int:
    """Prints the table; returns the exit code (1: results differ, 2: the user can mend it)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with the files of reference")
    parser.add_argument("--out", type=Path, help="Markdown to write")
    args = parser.parse_args(argv)
    compared: dict[str, dict[str, tuple[Any, Any]]] = {}

    def run() -> None:
        names = [path.name for path in sorted(args.folder.glob("*_expected.json"))]
        if not names:
            raise ValueError(f"{str(args.folder)!r} has no *_expected.json: check the folder")
        for name in (name.removesuffix("_expected.json") for name in names):
            compared[name] = compare(args.folder, name)
        print(page(compared))
        if args.out:
            head = "# FG-OVD's metric: parity with the official evaluator"
            args.out.write_text(f"{head}\n\n{page(compared)}\n", encoding="utf-8")

    code = run_tool(run)
    pairs = [pair for values in compared.values() for pair in values.values()]
    return code or int(any(differs(*pair) for pair in pairs))


if __name__ == "__main__":
    sys.exit(main())
