"""Where objects are smaller than any that the bundled model was trained on: who is not found, why.

Pictures of a presence split are set into larger ones of one colour, at a place by chance, so that
the network sees their objects at a share of their size. Each phrase is asked alone, of what the
detector proposes, and as a limit of the true boxes of all objects, taken for certain; or with
--tile of what it proposes in tiles beside.

    python benchmarks/presence_sizes.py --pictures data/shapes presence_test --number 120
    python benchmarks/presence_sizes.py --pictures data/shapes presence_test --number 40 --tile 128
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from mmengine.structures import InstanceData
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report
from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.apis.presence.values import Values
from fgclip_det.datasets.presence_queries import AskedPicture, read_queries
from fgclip_det.evaluation.presence import area_under_curve
from fgclip_det.io import read_image

# Shares of the side of the larger picture.
SHARES = (1.0, 0.7, 0.5)
# Of tiles: as large as most objects.
_OVERLAP = 0.5


def placed(pixels: np.ndarray, share: float, seed: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """A picture in a larger one, and its place (x, y) in pixels."""
    sides = np.round(np.array(pixels.shape[:2]) / share).astype(int)
    room = sides - pixels.shape[:2]
    y, x = np.random.default_rng(seed).integers(0, room + 1)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    larger = np.empty((*sides, 3), np.uint8)
    larger[:] = np.median(border, axis=0)
    larger[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    return larger, np.array([x, y])


@contextmanager
def proposing(detector: OpenVocabInferencer, boxes: np.ndarray) -> Iterator[None]:
    """The first stage gives boxes (K, 4) of a picture, xyxy in its pixels, and is sure of them."""
    head = detector.model.rpn_head

    def certain(*_: object, batch_img_metas: list[dict], **__: object) -> list[InstanceData]:
        scale = np.tile(batch_img_metas[0]["scale_factor"], 2)
        given = torch.from_numpy((boxes * scale).astype(np.float32))
        return [InstanceData(bboxes=given, scores=torch.ones(len(given)))]

    head.predict_by_feat = certain
    try:
        yield
    finally:
        del head.predict_by_feat


def answers(
    detector: OpenVocabInferencer,
    pictures: list[AskedPicture],
    share: float,
    values: Values,
    tile: int | None,
) -> dict[str, dict[str, list[float]]]:
    """Confidences of the best regions, by where those come from and by the kind of the query."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for number, picture in enumerate(tqdm(pictures, desc=f"share {share}")):
        pixels, place = placed(read_image(picture.path, "stored"), share, [number])
        texts = [query.text for query in picture.queries]
        (given,) = detector.propose([pixels], progress=False)
        images = {"proposed": given}
        if tile is None:
            boxes = np.concatenate([query.boxes for query in picture.queries]) + np.tile(place, 2)
            with proposing(detector, boxes):
                (images["true boxes"],) = detector.propose([pixels], progress=False)
        else:
            settings = {"tile": tile, "overlap": _OVERLAP, "batch_size": 8, "progress": False}
            (images["in tiles"],) = detector.propose([pixels], **settings)
        for name, image in images.items():
            best = values(image.regions, texts).amax(dim=0).tolist()
            for query, value in zip(picture.queries, best, strict=True):
                found[name][query.kind].append(value)
    return found


def main(argv: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--pictures",
        nargs=2,
        required=True,
        metavar=("SHAPES", "SPLIT"),
        help="folder of tools/prepare_shapes.py, and a presence split of it",
    )
    parser.add_argument("--number", type=int, help="so many pictures; all if unset")
    parser.add_argument("--tile", type=int, help="side of tiles in pixels, in place of true boxes")
    args = parser.parse_args(argv)
    root, split = Path(args.pictures[0]), args.pictures[1]
    queries = root / "annotations" / f"{split}_presence.json"
    pictures = read_queries(queries, root / split)[: args.number]
    detector = OpenVocabInferencer(device="cpu")
    texts = [query.text for picture in pictures for query in picture.queries]
    values = Values(detector, texts, "confidence")
    rows = []
    for share in SHARES if args.tile is None else SHARES[1:]:
        for name, kinds in answers(detector, pictures, share, values, args.tile).items():
            there, near, absent = (
                np.array(kinds[kind]) for kind in ("present", "near_miss", "absent")
            )
            areas = [f"{area_under_curve(there, other):.4f}" for other in (near, absent)]
            shares = [f"{100 * (part >= 0.5).mean():.1f}" for part in (there, near, absent)]
            hidden = f"{100 * (there == 0).mean():.1f}"
            rows.append([f"{share:g}, {name}", *areas, *shares, hidden, str(len(there))])
    head = ["size, regions", "AUC near", "AUC absent", "found, %", "near, %", "absent, %"]
    print(report.table([*head, "there and beaten everywhere, %", "of each kind"], rows))


if __name__ == "__main__":
    main()
