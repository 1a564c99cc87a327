"""Name boxes of your own: whatever stands out from the background, found without a detector.

python demo/own_boxes.py fgclip_det/assets/shapes/images --texts "a blue dotted star. a ring"
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fgclip_det.apis import OpenVocabInferencer

SHAPES = Path(__file__).resolve().parents[1] / "fgclip_det" / "assets" / "shapes"
# What competes in the world of the bundled encoder; with others it is what the package has.
NEGATIVES = {
    "vocabularies": [str(SHAPES / "vocabulary.json")],
    "max_cosine": 1.0,
    "attributes": str(SHAPES / "attributes.json"),
}
LEAST_AREA = 100


def find_boxes(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of connected pixels that are not of the usual colour.

    Args:
        picture: (H, W, 3) uint8, RGB.

    Returns:
        (K, 4) float32, xyxy in pixels, and (K,) scores in [0, 1].
    """
    usual = np.median(picture.reshape(-1, 3), axis=0)
    stands_out = np.abs(picture - usual).max(axis=2) > 50
    # Holes of a pattern are closed.
    closed = cv2.morphologyEx(stands_out.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5)))
    found = cv2.connectedComponentsWithStats(closed)[2][1:]
    left, top, width, height, area = found[found[:, cv2.CC_STAT_AREA] >= LEAST_AREA].T
    boxes = np.stack([left, top, left + width, top + height], axis=1).astype(np.float32)
    return boxes, (area / (width * height)).astype(np.float32)


def main(argv: list[str] | None = None) -> int:
    """Prints what the boxes are called; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("images", nargs="+", help="files or folders")
    parser.add_argument("--texts", required=True, help='"a red mug. a blue mug"')
    parser.add_argument("--encoder", help="of your own, or a hub's id (default: bundled)")
    arguments = parser.parse_args(argv)
    model = {
        "type": "OpenVocabWrapper",
        "detector": {"type": "BoxSource", "source": find_boxes},
        "encoder": arguments.encoder or str(SHAPES / "encoder"),
        "test_cfg": {} if arguments.encoder else {"negatives": NEGATIVES},
    }
    # No resize: boxes and pixels are the picture's own.
    pipeline = [{"type": "LoadImageFromFile"}, {"type": "PackDetInputs"}]
    config = Config({"model": model, "test_dataloader": {"dataset": {"pipeline": pipeline}}})
    try:
        for answer in OpenVocabInferencer(config)(arguments.images, arguments.texts):
            for name, score, box in zip(answer.names, answer.scores, answer.boxes, strict=True):
                print(f"{answer.image_path}: {score:.2f} {name} {box.round().int().tolist()}")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
