"""Compares `evaluate_encoder` with what the authors' functions said of the same data sets.

The folder is that of the golden tensors: ``fgclip_tiny``, ``fgclip2_tiny``, and ``evaluation`` with
a small data set in stock files for each protocol, and what is expected in ``expected.json``.

    python benchmarks/encoder_parity.py ../shared/golden --out benchmarks/results/encoder_parity.md
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report
from fgclip_det.encoders import load_encoder
from fgclip_det.evaluation.encoder import Result, evaluate_encoder, find_protocol
from fgclip_det.exit_codes import run_tool

GENERATIONS = ("fgclip", "fgclip2")
TOLERANCE = 1e-6
# In place of the real 1,000, in the small data sets.
OPTIONS = {"limit": 50, "num_classes": 12}
HEAD = [
    "protocol",
    "encoder",
    "numbers",
    "largest difference",
    "tie-dependent",
    "largest beyond bounds",
]


def encoder_folder(golden: Path, generation: str, folder: Path) -> Path:
    """Weights and tokenizer of a golden encoder in one folder."""
    target = folder / generation
    shutil.copytree(golden / f"{generation}_tiny", target)
    tokenizer = golden / "evaluation" / "tokenizers" / generation
    shutil.copytree(tokenizer, target, dirs_exist_ok=True)
    return target


def changed_encoder(folder: Path, changes: dict[str, Any]) -> Any:
    """An encoder with the changes of a variant, such as ``{"logit_scale": "ln 60"}``."""
    encoder = load_encoder(folder)
    for name, change in changes.items():
        weight = encoder.state_dict()[name]
        if isinstance(change, str) and change.startswith("times "):
            weight *= float(change.removeprefix("times "))
        elif isinstance(change, str):
            weight.fill_(torch.tensor(float(change.removeprefix("ln "))).log())
        else:
            weight.fill_(change)
    return encoder


def compare(result: Result, expected: dict[str, Any]) -> list[str]:
    """Cells of the table behind the name and the encoder."""
    numbers, apart, tied, beyond = result.numbers(), [0.0], 0, [0.0]
    for population in ("as_published", "whole_population"):
        bounds = expected["tie_dependent"].get(population, {})
        for metric, value in expected[population].items():
            found = numbers.pop(f"{population}.{metric}", float("nan"))
            low, high = bounds.get(metric, (value, value))
            tied += metric in bounds
            apart.append(abs(found - value))
            beyond.append(max(low - found, found - high, 0.0))
    if numbers:
        raise ValueError(f"{result.protocol} has numbers that are not expected: {[*numbers]}")
    return [str(len(apart) - 1), f"{max(apart):.0e}", str(tied), f"{max(beyond):.0e}"]


def rows(golden: Path) -> Iterator[list[str]]:
    """A row of the table for each data set and generation."""
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: encoder_folder(golden, name, Path(scratch)) for name in GENERATIONS}
        for path in sorted((golden / "evaluation").glob("*/expected.json")):
            values = json.loads(path.read_text(encoding="utf-8"))
            for generation in (name for name in GENERATIONS if name in values):
                expected = values[generation]
                name = expected.get("data", path.parent.name)
                option = find_protocol(name).option
                options = {option: OPTIONS[option]} if option else {}
                encoder = changed_encoder(
                    folders[generation], expected.get("checkpoint_change", {})
                )
                result = evaluate_encoder(encoder, name, path.parents[1] / name, **options)
                yield [path.parent.name, generation, *compare(result, expected)]


def main(argv: list[str] | None = None) -> int:
    """Prints the table; returns the exit code (1: results differ, 2: the user can mend it)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the golden tensors")
    parser.add_argument("--out", type=Path, help="Markdown to write")
    args = parser.parse_args(argv)
    found: list[list[str]] = []

    def run() -> None:
        if not (args.folder / "evaluation").is_dir():
            raise ValueError(f"{str(args.folder)!r} has no evaluation/: check the folder")
        with warnings.catch_warnings():
            # Of LVIS one lies nowhere, on purpose.
            warnings.filterwarnings("ignore", "1 of 28 pictures are missing")
            found.extend(rows(args.folder))
        table = report.table(HEAD, found)
        print(table)
        if args.out:
            head = "# FG-CLIP's own evaluation: parity with the authors' functions"
            args.out.write_text(f"{head}\n\n{table}\n", encoding="utf-8")

    code = run_tool(run)
    return code or int(any(not float(row[-1]) <= TOLERANCE for row in found))


if __name__ == "__main__":
    sys.exit(main())
