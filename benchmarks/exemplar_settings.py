"""How exemplars become embeddings: settings compared on a split of their own.

One half of the pictures of ``val_exemplars/`` is shown, the other asked, and in turn.

    python tools/prepare_shapes.py --num-val-exemplars 800
    python benchmarks/exemplar_settings.py --shapes data/shapes
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report
from benchmarks.exemplars import PARTS, Pictures, Precision, asked, drawn
from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.apis.detector_loading import BUNDLED
from fgclip_det.vocabulary import RegionBank
from fgclip_det.vocabulary.shown.stand_ins import ExemplarSettings

SHOTS = (1, 5)
# By what they are asked with: exemplars alone, as crops, or with texts.
CHOICES: dict[str, dict[str, list[Any]]] = {
    "boxes": {"ridge": [0, 0.3, 1.0, 3.0, 10.0], "centring": [0.0, 0.5, 1.0]},
    "crops": {"surround": [1.0, 2.0, 3.0, 4.0]},
    "text and boxes": {"text_weight": [0.25, 0.5, 0.75, 0.9]},
}


def compared(root: Path, draws: int) -> list[list[str]]:
    """Rows of the table: AP50 of base, novel and all names, means over draws and halves."""
    detector = OpenVocabInferencer(device="cpu")
    mean = RegionBank.load(BUNDLED / "region_bank.safetensors").embeddings.float().mean(dim=0)
    halves = [Pictures(root, "val_exemplars", slice(own, None, 2)) for own in (0, 1)]
    precision = [Precision(detector, one) for one in halves]
    pools = [one.exemplars() for one in halves]
    texts = [one.of(detector.looking, asked(None)) for one in precision]
    rows = [["text", "", "", *_cells(texts)]]
    for kind, settings in CHOICES.items():
        for setting, values in settings.items():
            for value in values:
                changed = ExemplarSettings(**{setting: value})
                looking = detector.looking.with_settings(changed, mean)
                for shots in SHOTS:
                    found = [
                        precision[1 - half].of(
                            looking,
                            asked(
                                drawn(pools[half], shots, seed, kind == "crops"),
                                kind == "text and boxes",
                            ),
                        )
                        for half in (0, 1)
                        for seed in range(draws)
                    ]
                    rows.append([kind, f"{setting} {value:g}", str(shots), *_cells(found)])
                    print(*rows[-1], file=sys.stderr, flush=True)
    return rows


def _cells(found: list[np.ndarray]) -> list[str]:
    return [f"{value:.1f}" for value in np.mean(found, axis=0)]


def main(argv: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", type=Path, default=Path("data/shapes"))
    parser.add_argument("--draws", type=int, default=3, help="of exemplars, for each half")
    args = parser.parse_args(argv)
    print(report.table(["asked by", "setting", "shown", *PARTS], compared(args.shapes, args.draws)))


if __name__ == "__main__":
    main()
