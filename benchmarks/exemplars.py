"""Things shown instead of said: what exemplars are worth beside texts, on Shapes.

    python tools/prepare_shapes.py --num-exemplars 800 --num-val-exemplars 800 \
        --num-presence-val 700 --num-presence-test 700
    python benchmarks/exemplars.py --shapes data/shapes --out benchmarks/results/exemplars_cpu.json

Exemplars are drawn from ``exemplars/`` and asked of ``val/``; those of what a name is not are from
``val_exemplars/``. Settings were chosen by ``exemplar_settings.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from torchvision.ops import box_convert, box_iou
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report
from fgclip_det.apis import ImageRegions, OpenVocabInferencer
from fgclip_det.apis.presence.values import Values
from fgclip_det.apis.shown.looking import Looking
from fgclip_det.datasets.presence_queries import read_queries
from fgclip_det.datasets.shapes.captions import region_caption
from fgclip_det.datasets.shapes.generator import compositions, is_novel, vocabulary
from fgclip_det.evaluation.coco_style.class_precision import Detections
from fgclip_det.evaluation.coco_style.libraries import counting_library
from fgclip_det.evaluation.ov_coco.average_precision import average_precision
from fgclip_det.evaluation.presence import threshold_at_recall
from fgclip_det.io import read_image, read_json, write_json
from fgclip_det.models.regions.region_classification import to_original
from fgclip_det.vocabulary import Exemplar, Vocabulary
from fgclip_det.vocabulary.shown.exemplars import Shown

TABLES = ("AP50", "alarms", "own")
_AT_ONCE = 32
_IOU = 0.5
_NOVEL = np.array([is_novel(one) for one in compositions()])
PARTS = {"base": ~_NOVEL, "novel": _NOVEL, "all": _NOVEL | ~_NOVEL}
NAMES = [one.name for one in compositions()]


class Pictures:
    """Some pictures of a split, with their regions and what they show.

    Args:
        root: Folder of tools/prepare_shapes.py.
        split: Its name.
        part: Which part of the pictures is taken, as a slice.
    """

    def __init__(self, root: Path, split: str, part: slice = slice(None)) -> None:
        coco = read_json(root / "annotations" / f"{split}.json", max_bytes=None)
        self.images = coco["images"][part]
        kept = {one["id"] for one in self.images}
        self.annotations = [one for one in coco["annotations"] if one["image_id"] in kept]
        self.categories = coco["categories"]
        self.folder = root / split

    def regions(self, detector: OpenVocabInferencer) -> list[ImageRegions]:
        """Of each picture."""
        found: list[ImageRegions] = []
        for start in tqdm(range(0, len(self.images), _AT_ONCE), desc=self.folder.name):
            some = [self.folder / one["file_name"] for one in self.images[start : start + _AT_ONCE]]
            found += detector.propose(some, batch_size=8, progress=False)
        return found

    def exemplars(self) -> dict[str, list[Exemplar]]:
        """Of each name, in the order of the file."""
        files = {one["id"]: str(self.folder / one["file_name"]) for one in self.images}
        names = {one["id"]: one["name"] for one in self.categories}
        found: dict[str, list[Exemplar]] = {name: [] for name in NAMES}
        for one in self.annotations:
            x, y, width, height = one["bbox"]
            box = (x, y, x + width, y + height)
            found[names[one["category_id"]]].append(Exemplar(files[one["image_id"]], box))
        return found

    def truth(self) -> COCO:
        """Their ground truth."""
        coco = COCO()
        coco.dataset = {
            "images": self.images,
            "annotations": self.annotations,
            "categories": self.categories,
        }
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
        return coco


def drawn(
    pool: Mapping[str, Sequence[Exemplar]], shots: int, seed: int, as_crops: bool = False
) -> dict[str, Shown]:
    """So many exemplars of each name, by chance."""
    chance = np.random.default_rng(seed)
    found = {}
    for name, own in pool.items():
        chosen = [own[row] for row in chance.permutation(len(own))[:shots]]
        found[name] = Shown(tuple(map(_crop, chosen) if as_crops else chosen))
    return found


def _crop(one: Exemplar) -> Exemplar:
    assert one.box is not None
    x1, y1, x2, y2 = map(round, one.box)
    return Exemplar(read_image(str(one.picture))[y1:y2, x1:x2].copy())


def asked(shown: dict[str, Shown] | None, with_texts: bool = True) -> Vocabulary:
    """The names of Shapes, said, shown, or both."""
    said = Vocabulary.parse(vocabulary())
    if shown is None:
        return said
    prompts = said.prompts if with_texts else ((),) * len(said)
    return replace(said, prompts=prompts, shown=shown)


class Precision:
    """AP50 of pictures: shares of the names alone, as in docs/shapes.md."""

    def __init__(self, detector: OpenVocabInferencer, pictures: Pictures) -> None:
        self.model = detector.model
        self.pictures, self.truth = pictures, pictures.truth()
        self.regions = [one.regions for one in pictures.regions(detector)]

    def of(self, looking: Looking, names: Vocabulary) -> np.ndarray:
        """(3,) percent: base, novel and all names."""
        texts = looking.encode(names)
        columns: dict[str, list[Any]] = defaultdict(list)
        found = self.model.classify(self.regions, texts)
        for image, own in zip(self.pictures.images, found, strict=True):
            columns["image"] += [image["id"]] * len(own)
            columns["category"] += (own.labels + 1).tolist()
            columns["score"] += own.scores.tolist()
            columns["box"] += box_convert(own.bboxes, "xyxy", "xywh").tolist()
        arrays = [np.array(columns[key]) for key in ("image", "category", "score", "box")]
        told = Detections(*arrays[:3], arrays[3].reshape(-1, 4))
        wanted = list(range(1, len(NAMES) + 1))
        ap = 100 * average_precision(self.truth, told, wanted, counting_library())[:, 0]
        return np.array([ap[part & (ap >= 0)].mean() for part in PARTS.values()])


def told(values: Sequence[np.ndarray], text: np.ndarray) -> dict[str, Any]:
    """Mean and spread over draws, and the mean as a share of text's, of base, novel and all."""
    table = np.array(values)
    return {
        part: {
            "mean": round(float(table[:, column].mean()), 2),
            "least": round(float(table[:, column].min()), 2),
            "most": round(float(table[:, column].max()), 2),
            "of_text": round(float(100 * table[:, column].mean() / text[column]), 1),
        }
        for column, part in enumerate(PARTS)
    }


def precisions(detector: OpenVocabInferencer, root: Path, draws: int) -> dict[str, Any]:
    """The table of ``val/``."""
    of = partial(Precision(detector, Pictures(root, "val")).of, detector.looking)
    pool = Pictures(root, "exemplars").exemplars()
    text = of(asked(None))
    rows: dict[str, Any] = {"text": told([text], text)}
    for name, shots, with_texts, as_crops in (
        ("1 exemplar", 1, False, False),
        ("5 exemplars", 5, False, False),
        ("text and 5 exemplars", 5, True, False),
        ("text and 1 exemplar", 1, True, False),
        ("1 crop", 1, False, True),
    ):
        rows[name] = told(
            [
                of(asked(drawn(pool, shots, seed, as_crops), with_texts))
                for seed in tqdm(range(draws), desc=name)
            ],
            text,
        )
        print(name, rows[name], file=sys.stderr, flush=True)
    return rows


def near_misses(detector: OpenVocabInferencer, root: Path, number: int | None) -> dict[str, Any]:
    """Near-miss alarms at 95 % recall, of one name at a time, told apart from what it is not.

    That is of the names that differ in one attribute, from ``val_exemplars/``: the five exemplars
    that are most like the name to the detector, which a user would click away, or one of each of
    these names, by chance; and, as the limit, the words of what is shown.
    """
    near = _near(detector, Pictures(root, "val_exemplars"))
    queries = {
        part: read_queries(
            root / "annotations" / f"presence_{part}_presence.json", root / f"presence_{part}"
        )[:number]
        for part in ("val", "test")
    }
    images = {
        part: [
            image
            for start in tqdm(range(0, len(own), _AT_ONCE), desc=f"presence_{part}")
            for image in detector.propose(
                [one.path for one in own[start : start + _AT_ONCE]], batch_size=8, progress=False
            )
        ]
        for part, own in queries.items()
    }
    rows = {}
    captions = {one.name: region_caption(one) for one in compositions()}
    for told, chosen, by_words in (
        ("text", {name: [] for name in NAMES}, False),
        ("text, not 5 exemplars", {name: own[:5] for name, own in near.items()}, False),
        ("text, not their words", {name: own[:5] for name, own in near.items()}, True),
        ("text, not an exemplar of each", {n: _of_each(own) for n, own in near.items()}, False),
        ("text, not the words of each", {n: _of_each(own) for n, own in near.items()}, True),
    ):
        entries = {
            captions[name]: {
                "prompts": [captions[name]],
                "not": [*dict.fromkeys(captions[other] for other, _ in own if by_words)],
                "not_like": [one for _, one in own if not by_words],
            }
            for name, own in chosen.items()
        }
        values = Values(detector, Vocabulary.parse(entries), "score")
        best: dict[tuple[str, str], list[float]] = defaultdict(list)
        for part, own in queries.items():
            for picture, image in zip(own, images[part], strict=True):
                table = values(image.regions, [query.text for query in picture.queries])
                for query, column in zip(picture.queries, table.T, strict=True):
                    best[part, query.kind].append(float(column.max()))
        threshold = threshold_at_recall(np.array(best["val", "present"]))
        rows[told] = {
            kind: round(100 * float((np.array(best["test", kind]) >= threshold).mean()), 2)
            for kind in ("present", "near_miss", "absent")
        }
    return rows


Named = tuple[str, Exemplar]


def _near(detector: OpenVocabInferencer, pictures: Pictures) -> dict[str, list[Named]]:
    """Of each name the exemplars of others, one attribute away; those that fit it best first."""
    every = [(name, one) for name, own in pictures.exemplars().items() for one in own]
    shown = {str(row): {"like": one} for row, (_, one) in enumerate(every)}
    seen = detector.looking.encode(Vocabulary.parse(shown)).embeddings
    cosines = seen @ detector.looking.encode(asked(None)).embeddings.T
    found = {}
    for column, name in enumerate(NAMES):
        near = [
            row
            for row, (other, _) in enumerate(every)
            if len({*other.split()} - {*name.split()}) == 1
        ]
        near.sort(key=lambda row, column=column: -float(cosines[row, column]))
        found[name] = [every[row] for row in near]
    return found


def _of_each(own: Sequence[Named]) -> list[Named]:
    """One of each name, by chance."""
    order = np.random.default_rng(0).permutation(len(own))
    return [*{own[row][0]: own[row] for row in order}.values()]


def own_pictures(detector: OpenVocabInferencer, root: Path, number: int) -> dict[str, Any]:
    """How often what is shown is the best region of its own picture, no class being there twice."""
    pictures = Pictures(root, "exemplars")
    pool = [one for own in pictures.exemplars().values() for one in own]
    chosen = [pool[row] for row in np.random.default_rng(0).permutation(len(pool))[:number]]
    files = [str(one.picture) for one in chosen]
    distinct = [*dict.fromkeys(files)]
    found = detector.propose(distinct, batch_size=8, progress=False)
    regions = dict(zip(distinct, found, strict=True))
    right, reachable = [], []
    for one in tqdm(chosen, desc="own pictures"):
        image = regions[str(one.picture)].regions
        boxes = to_original(image.boxes, image.image_meta)
        ious = box_iou(boxes, torch.tensor([one.box]))[:, 0]
        values = Values(detector, Vocabulary.parse({"it": {"like": one}}), "score")
        right.append(bool(ious[values(image, ["it"])[:, 0].argmax()] >= _IOU))
        reachable.append(bool((ious >= _IOU).any()))
    return {
        "exemplars": len(chosen),
        "own region first, %": round(100 * float(np.mean(right)), 2),
        "with a region on it, %": round(100 * float(np.mean(reachable)), 2),
    }


def page(results: Mapping[str, Any]) -> str:
    """The tables that there are."""
    tables, lines = [], []
    for name, own in results.get("AP50", {}).items():
        cells = [
            f"{one['mean']:.1f} ({one['least']:.1f} to {one['most']:.1f})" for one in own.values()
        ]
        lines.append([name, *cells, *(f"{one['of_text']:.1f}" for one in own.values())])
    if lines:
        head = ["asked by", *PARTS, *(f"{part}, % of text" for part in PARTS)]
        tables.append(report.table(head, lines))
    if alarms := results.get("alarms"):
        rows = [[k, *(f"{value:.2f}" for value in v.values())] for k, v in alarms.items()]
        tables.append(report.table(["asked by", "found, %", "near misses, %", "absent, %"], rows))
    if own := results.get("own"):
        tables.append(report.table(list(own), [[str(value) for value in own.values()]]))
    return "\n\n".join(tables)


def main(argv: list[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", type=Path, default=Path("data/shapes"))
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--own", type=int, default=500, help="exemplars asked of their own picture")
    parser.add_argument("--asked", type=int, help="pictures of each file of queries; all if unset")
    parser.add_argument("--out", type=Path, help="JSON to write")
    args = parser.parse_args(argv)
    detector = OpenVocabInferencer(device="cpu")
    made = {
        "AP50": lambda: precisions(detector, args.shapes, args.draws),
        "alarms": lambda: near_misses(detector, args.shapes, args.asked),
        "own": lambda: own_pictures(detector, args.shapes, args.own),
    }
    results: dict[str, Any] = {name: made[name]() for name in args.tables}
    print(page(results))
    if args.out:
        write_json(args.out, results)


if __name__ == "__main__":
    main()
