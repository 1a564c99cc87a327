"""Times a step of training against the plain recipe: torchvision's RoIAlign and all that it needs.

Cases: the detector of Shapes at its batch size on the bundled weights, and FG-CLIP-B on one picture
of 640 x 640 with random weights. First compares the losses; where they differ no ratio is printed.

    python benchmarks/train_step.py --threads 2
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import recipe_comparison


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; see `recipe_comparison.main`."""
    return recipe_comparison.main(
        argv,
        which="train_step",
        title="A step of training: speed and memory",
        description=__doc__,
    )


if __name__ == "__main__":
    sys.exit(main())
