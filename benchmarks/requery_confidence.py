"""What confidences and competition cost when a picture is asked again, by the bundled model.

*plain* is `classify` of kept regions by shares alone, *confident* what users get: the null bank and
the exchanges compete, and there are confidences. The two take turns, each asked for other names of
the same number, whose texts are encoded before; CPU time of one call, the median of the rounds.

    python benchmarks/requery_confidence.py
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report
from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.apis.detector_loading import BUNDLED

NAMES = (1, 20, 64)


def seconds(detector: OpenVocabInferencer, names: list[str], number: int, calls: int) -> float:
    """CPU seconds of a call."""
    images = detector.propose(BUNDLED / "images", progress=False)
    asked = [
        detector.encode([f"a {name}" for name in names[start * number : (start + 1) * number]])
        for start in range(3)
    ]
    for texts in asked:
        detector.classify(images[:1], [texts])
    begin = time.process_time()
    for call in range(calls):
        detector.classify(images[:1], [asked[call % len(asked)]])
    return (time.process_time() - begin) / calls


def main(argv: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=60, help="of each in a round")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    confident = OpenVocabInferencer(device="cpu")
    plain = OpenVocabInferencer(device="cpu", calibration=None)
    plain.set_negatives(None)
    names = list(confident.encode().names)
    rows = []
    for number in NAMES:
        pairs = [
            [seconds(one, names, number, args.calls) for one in (plain, confident)]
            for _ in range(args.rounds)
        ]
        without, with_it = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
        ratios = sorted(b / a for a, b in pairs)
        told = f"{statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"
        rows.append([str(number), f"{without:.2f}", f"{with_it:.2f}", told])
    print(report.table(["names", "plain, ms", "confident, ms", "ratio"], rows))


if __name__ == "__main__":
    main()
