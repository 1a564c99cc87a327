"""What null bank, exchanges and region bank are worth to the bundled model's confidences.

For each choice of the three a curve is fitted to the best regions of the queries of --tune, and the
threshold fixed there such that 95 % of what is there is found; all figures are of those of --test.
What a name is beaten by does not count here: all are figures of confidences. Then the AP50 of
--coco by shares and by the shipped confidences, all names asked at once.

    python benchmarks/presence_ablation.py --tune data/shapes presence_val \
        --test data/shapes presence_test --coco data/shapes val
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from pycocotools.coco import COCO
from torchvision.ops import box_iou
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report
from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.apis.image_regions import ImageRegions
from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.calibration import Calibration, fit_curve
from fgclip_det.datasets.presence_queries import KINDS, AskedPicture, read_queries
from fgclip_det.datasets.shapes.captions import region_caption
from fgclip_det.datasets.shapes.generator import compositions, is_novel
from fgclip_det.evaluation.coco_style.class_precision import Detections
from fgclip_det.evaluation.coco_style.libraries import counting_library
from fgclip_det.evaluation.ov_coco.average_precision import average_precision
from fgclip_det.evaluation.presence import (
    area_under_curve,
    reliability,
    threshold_at_recall,
)
from fgclip_det.evaluation.presence.summary import RIGHT_IOU
from fgclip_det.io import read_json
from fgclip_det.models.regions.region_classification import to_original
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from fgclip_det.vocabulary.competition import Competition

_AT_ONCE = 32
# Which region is a query's best depends on the curve, and the curve on those.
_FITS = 3
CHOICES = {
    "nothing": "",
    "(a) null bank": "a",
    "(b) exchanges": "b",
    "(a) and (b), shipped": "ab",
    "(a), (b) and (c)": "abc",
}
# Of a query: its kind, (K, F) evidence, and which of its K regions are right.
Case = tuple[str, np.ndarray, np.ndarray]


def competition(detector: OpenVocabInferencer, choice: str) -> Competition:
    """What competes, by the letters of `CHOICES`."""
    return Competition(
        detector.model.encoder,
        [str(BUNDLED / "vocabulary.json")] if "a" in choice else [],
        max_cosine=1.0,
        attributes=BUNDLED / "attributes.json" if "b" in choice else None,
        region_bank=BUNDLED / "region_bank.safetensors" if "c" in choice else None,
        wording="a {}",
    )


def regions_of(
    detector: OpenVocabInferencer, pictures: list[AskedPicture]
) -> Iterator[ImageRegions]:
    """Regions of one picture after the other."""
    for start in tqdm(range(0, len(pictures), _AT_ONCE), desc="pictures"):
        paths = [picture.path for picture in pictures[start : start + _AT_ONCE]]
        yield from detector.propose(paths, batch_size=8, progress=False)


@torch.no_grad()
def cases(detector: OpenVocabInferencer, pictures: list[AskedPicture]) -> dict[str, list[Case]]:
    """Evidence of all queries, by choice."""
    names = sorted({query.text for picture in pictures for query in picture.queries})
    texts = detector.encode(Vocabulary.parse(names))
    rows = {name: row for row, name in enumerate(texts.names)}
    rivals = {one: competition(detector, kind).against(texts) for one, kind in CHOICES.items()}
    found: dict[str, list[Case]] = {one: [] for one in CHOICES}
    for picture, image in zip(pictures, regions_of(detector, pictures), strict=True):
        asked = [rows[query.text] for query in picture.queries]
        own = TextEmbeddings(
            Vocabulary.parse([query.text for query in picture.queries]),
            texts.embeddings[asked],
            texts.encoder_fingerprint,
            texts.text_length,
        )
        boxes = to_original(image.regions.boxes, image.regions.image_meta)
        overlaps = [box_iou(boxes, torch.from_numpy(query.boxes)) for query in picture.queries]
        right = [(own >= RIGHT_IOU).any(dim=1).numpy() for own in overlaps]
        for one, given in rivals.items():
            (told,) = detector.model.evidence([image.regions], own, given.subset(asked))
            features = {k: v for k, v in told.features.items() if k != "encoder"}
            table = torch.stack([*features.values()], dim=-1).float().numpy()
            found[one] += [
                (query.kind, table[:, column], right[column])
                for column, query in enumerate(picture.queries)
            ]
    return found


def best(cases: list[Case], curve: Calibration) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each query the best region: its features (N, F), whether it is right, its confidence."""
    features, right, values = [], [], []
    for _, table, verdicts in cases:
        figures = curve.confidence(dict(zip(curve.features, table.T, strict=True)))
        place = int(figures.argmax())
        features.append(table[place])
        right.append(bool(verdicts[place]))
        values.append(float(figures[place]))
    return np.array(features), np.array(right), np.array(values)


def fitted(cases: list[Case]) -> Calibration:
    """A curve for the best regions of queries."""
    names = ("detector", "objectness", "place")[: cases[0][1].shape[1]]
    curve = Calibration("-", "-", {}, names, (1.0,) + (0.0,) * (len(names) - 1))
    for _ in range(_FITS):
        features, right, _ = best(cases, curve)
        made = fit_curve(dict(zip(names, features.T, strict=True)), right)
        curve = Calibration("-", "-", {}, names, made.weights, made.bias)
    return curve


def row(name: str, tune: list[Case], test: list[Case]) -> list[str]:
    """A line of the table."""
    curve = fitted(tune)
    kinds = {part: np.array([kind for kind, *_ in own]) for part, own in (("t", tune), ("v", test))}
    *_, tuned = best(tune, curve)
    _, right, values = best(test, curve)
    threshold = threshold_at_recall(tuned[kinds["t"] == "present"])
    by_kind = {kind: values[kinds["v"] == kind] for kind in KINDS}
    shares = [f"{100 * (by_kind[kind] >= threshold).mean():.2f}" for kind in KINDS]
    areas = [f"{area_under_curve(by_kind['present'], by_kind[k]):.4f}" for k in KINDS[1:]]
    return [name, *shares, *areas, f"{reliability(values, right).error:.4f}"]


def precision(detector: OpenVocabInferencer, root: Path, split: str) -> str:
    """AP50 of base, novel and all names, by shares where nothing competes, and by confidences."""
    file = root / "annotations" / f"{split}.json"
    truth, coco = read_json(file, max_bytes=None), COCO()
    coco.dataset = truth
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    paths = [str(root / split / one["file_name"]) for one in truth["images"]]
    ids = {one["name"]: one["id"] for one in truth["categories"]}
    asked = {one.name: [region_caption(one)] for one in compositions()}
    novel = np.array([is_novel(one) for one in compositions()])
    rows = []
    for name, negatives, score in (
        ("share", None, "score"),
        ("confidence", None, "confidence"),
        ("confidence, without what is beaten", "auto", "confidence"),
    ):
        detector.set_negatives(negatives)
        # Where there are confidences, boxes are suppressed by these.
        detector.set_calibration(None if score == "score" else "auto")
        found: list[dict] = []
        least = {} if score == "score" else {"conf_thr": 0.0}
        answers = detector(paths, asked, score_thr=0.0, **least)
        for one, answer in zip(truth["images"], answers, strict=True):
            found += answer.to_coco(one["id"], ids, score=score)
        wanted = [ids[one.name] for one in compositions()]
        ap = 100 * average_precision(coco, _arrays(found), wanted, counting_library())[:, 0]
        told = (ap[part & (ap >= 0)].mean() for part in (~novel, novel, novel | ~novel))
        rows.append([name, *(f"{value:.1f}" for value in told)])
    return report.table(["AP50 by", "base", "novel", "all"], rows)


def _arrays(found: list[dict]) -> Detections:
    keys = ("image_id", "category_id", "score", "bbox")
    images, categories, scores, boxes = (np.array([one[key] for one in found]) for key in keys)
    return Detections(images, categories, scores, boxes.reshape(-1, 4))


def main(argv: list[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    two = {"nargs": 2, "metavar": ("SHAPES", "SPLIT")}
    parser.add_argument(
        "--tune", **two, help="folder of tools/prepare_shapes.py, and a split of it; with --test"
    )
    parser.add_argument("--test", **two, help="no ablation without both")
    parser.add_argument("--coco", **two, help="a split with boxes of all names")
    args = parser.parse_args(argv)
    detector = OpenVocabInferencer(device="cpu")
    if args.tune and args.test:
        found = []
        for root, split in (args.tune, args.test):
            file = Path(root) / "annotations" / f"{split}_presence.json"
            found.append(cases(detector, read_queries(file, Path(root) / split)))
        head = ["competes", "recall %", "near misses %", "absent %", "AUC near", "AUC absent"]
        rows = [row(one, found[0][one], found[1][one]) for one in CHOICES]
        print(report.table([*head, "ECE"], rows), end="\n\n")
    if args.coco:
        print(precision(detector, Path(args.coco[0]), args.coco[1]))


if __name__ == "__main__":
    main()
