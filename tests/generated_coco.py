"""COCO 2017 and LVIS v1 in small: their real layout, ids and names, and drawn pictures.

Ids, orders and oddities are as in the real files: ids are neither ascending nor without gaps, some
images have no annotation, crowds carry a run-length mask, boxes touch the border or overstep it by
rounding, one has no height, and LVIS draws both of its splits from both of COCO's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.registry import DATASETS
from PIL import Image, ImageDraw

import fgclip_det.datasets  # noqa: F401  (registers mmdet's datasets, which have the names)

COCO_NAMES = DATASETS.get("CocoDataset").METAINFO["classes"]
COCO_IDS = tuple(i for i in range(1, 91) if i not in {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
# As published.
BASE_IDS = (
    *(1, 2, 3, 4, 7, 8, 9, 15, 16, 19, 20, 23, 24, 25, 27, 31, 33, 34, 35, 38, 42, 44, 48, 50),
    *(51, 52, 53, 54, 55, 56, 57, 59, 60, 62, 65, 70, 72, 73, 74, 75, 78, 79, 80, 82, 84, 85, 86),
    90,
)
NOVEL_IDS = (5, 6, 17, 18, 21, 22, 28, 32, 36, 41, 47, 49, 61, 63, 76, 81, 87)
UNUSED_IDS = tuple(sorted({*COCO_IDS} - {*BASE_IDS, *NOVEL_IDS}))
# Kinds of the first images of each split; all others show classes of a shuffled deck of all 80.
SPECIAL = ("empty", "unused", "novel", "crowd", "base")
LVIS_NUM_CATEGORIES = 1203
URL = "http://images.cocodataset.org"


def generate_coco(root: Path, num_train: int = 30, num_val: int = 20, seed: int = 0) -> Path:
    """Writes ``train2017/``, ``val2017/`` and ``annotations/instances_{train,val}2017.json``.

    Args:
        root: Folder to write to; made if missing.
        num_train: Number of images in train2017, at least 6.
        num_val: Number of images in val2017, at least 6.
        seed: Of everything; the same seed gives the same files.

    Returns:
        ``root``.
    """
    rng = np.random.default_rng(seed)
    image_ids = iter((rng.permutation(580_000)[: num_train + num_val] + 1).tolist())
    annotation_ids = iter((rng.permutation(900_000)[: 20 * (num_train + num_val)] + 1).tolist())
    categories = [
        {"supercategory": "generated", "id": number, "name": name}
        for number, name in zip(COCO_IDS, COCO_NAMES, strict=True)
    ]
    for split, count in (("train2017", num_train), ("val2017", num_val)):
        images, annotations = [], []
        for contents in _contents(rng, count):
            image, drawn = _draw_image(rng, root / split, next(image_ids), contents)
            images.append(image)
            annotations += [{**one, "id": next(annotation_ids)} for one in drawn]
        if split == "train2017":
            annotations.append({**_flat(annotations[-1]), "id": next(annotation_ids)})
        order = rng.permutation(len(annotations)).tolist()
        _write(
            root / "annotations" / f"instances_{split}.json",
            [images[i] for i in rng.permutation(len(images)).tolist()],
            [annotations[i] for i in order],
            categories,
        )
    return root


def generate_lvis(root: Path, seed: int = 0) -> Path:
    """Writes ``annotations/lvis_v1_{train,val}.json`` beside what `generate_coco` wrote.

    The last three images of train2017 belong to LVIS's validation split. Frequencies are drawn, so
    that 405 categories are frequent, 461 common and 337 rare.

    Args:
        root: Folder of `generate_coco`.
        seed: Of everything; the same seed gives the same files.

    Returns:
        ``root``.
    """
    rng = np.random.default_rng([seed, 1])
    names = ["speaker_(stero_equipment)" if "stereo_eq" in n else n for n in _lvis_names()]
    frequencies = rng.permutation(["f"] * 405 + ["c"] * 461 + ["r"] * 337).tolist()
    categories = [
        {
            "id": number,
            "name": name,
            "frequency": frequency,
            "synset": f"{name.lower()}.n.01",
            "synonyms": [name],
            "def": "generated",
            "image_count": 1,
            "instance_count": 1,
        }
        for number, (name, frequency) in enumerate(zip(names, frequencies, strict=True), start=1)
    ]
    train = _load(root, "train2017")
    val = _load(root, "val2017")
    moved = train["images"][-3:]
    splits = {"train": train["images"][:-3], "val": [*val["images"], *moved]}
    boxes = [a for a in [*train["annotations"], *val["annotations"]] if not a["iscrowd"]]
    for split, images in splits.items():
        ids = {image["id"] for image in images}
        annotations = [
            _lvis_annotation(one, int(rng.integers(1, LVIS_NUM_CATEGORIES + 1)))
            for one in boxes
            if one["image_id"] in ids
        ]
        entries = [_lvis_image(image) for image in images]
        _write(root / "annotations" / f"lvis_v1_{split}.json", entries, annotations, categories)
    return root


def _lvis_names() -> tuple[str, ...]:
    return tuple(DATASETS.get("LVISV1Dataset").METAINFO["classes"])


def _load(root: Path, split: str) -> dict[str, Any]:
    return json.loads((root / "annotations" / f"instances_{split}.json").read_text())


def _lvis_image(image: dict[str, Any]) -> dict[str, Any]:
    """LVIS tells the picture by its address alone."""
    kept = {key: value for key, value in image.items() if key != "file_name"}
    return {**kept, "not_exhaustive_category_ids": [], "neg_category_ids": [1, 2]}


def _lvis_annotation(annotation: dict[str, Any], category: int) -> dict[str, Any]:
    kept = {key: value for key, value in annotation.items() if key != "iscrowd"}
    return {**kept, "category_id": category}


def _contents(rng: np.random.Generator, count: int) -> list[list[tuple[int, str]]]:
    """Category id and kind ("object", "border" or "crowd") of each thing in each image."""
    special = {
        "empty": [],
        "unused": [(UNUSED_IDS[0], "object"), (UNUSED_IDS[1], "object")],
        "novel": [(NOVEL_IDS[0], "object"), (NOVEL_IDS[1], "border")],
        "crowd": [(BASE_IDS[0], "crowd")],
        "base": [(BASE_IDS[0], "object"), (BASE_IDS[1], "border"), (NOVEL_IDS[2], "crowd")],
    }
    contents = [special[kind] for kind in SPECIAL]
    deck: list[int] = []
    while len(contents) < count:
        if len(deck) < 7:
            deck = [COCO_IDS[i] for i in rng.permutation(len(COCO_IDS)).tolist()] + deck
        kinds = ["border", *["object"] * int(rng.integers(2, 7))]
        contents.append([(deck.pop(), kind) for kind in kinds])
    return contents


def _draw_image(
    rng: np.random.Generator, folder: Path, number: int, contents: list[tuple[int, str]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    folder.mkdir(parents=True, exist_ok=True)
    width, height = (int(side) for side in rng.integers(300, 641, 2))
    slope = np.linspace(0, 80, width)[None, :, None] + rng.integers(40, 140, (1, 1, 3))
    noise = rng.integers(-15, 16, (height, width, 3))
    image = Image.fromarray(np.clip(slope + noise, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    annotations = []
    for category, kind in contents:
        annotation = _draw_thing(rng, draw, (width, height), category, kind)
        annotations.append({**annotation, "image_id": number, "category_id": category})
    name = f"{number:012d}.jpg"
    image.save(folder / name, quality=85)
    entry = {
        "license": int(rng.integers(1, 9)),
        "file_name": name,
        "coco_url": f"{URL}/{folder.name}/{name}",
        "height": height,
        "width": width,
        "date_captured": "2013-11-14 17:02:52",
        "flickr_url": f"http://farm1.staticflickr.com/{number}.jpg",
        "id": number,
    }
    return entry, annotations


def _draw_thing(
    rng: np.random.Generator,
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    category: int,
    kind: str,
) -> dict[str, Any]:
    """Draws a hexagon (a crowd: a box) in its category's colour; returns its mask and box."""
    width, height = size
    w, h = (float(rng.uniform(0.1, 0.4) * side) for side in size)
    x, y = float(rng.uniform(2, width - w - 2)), float(rng.uniform(2, height - h - 2))
    if kind == "border":
        x, y = width - w, 0.0
    fill = tuple(np.random.default_rng(category).integers(0, 256, 3).tolist())
    if kind == "crowd":
        box = [int(x), int(y), int(w), int(h)]
        draw.rectangle([box[0], box[1], box[0] + box[2] - 1, box[1] + box[3] - 1], fill=fill)
        counts = _run_lengths(box, size)
        mask: Any = {"counts": counts, "size": [height, width]}
        return {"segmentation": mask, "area": box[2] * box[3], "iscrowd": 1, "bbox": box}
    corners = [(0.25, 0), (0.75, 0), (1, 0.5), (0.75, 1), (0.25, 1), (0, 0.5)]
    points = [(round(x + a * w, 2), round(y + b * h, 2)) for a, b in corners]
    draw.polygon(points, fill=fill)
    polygon = [value for point in points for value in point]
    # As in COCO: rounded up, so a box at the border oversteps it a little.
    box = [round(x, 2), round(y, 2), round(w + 0.005, 2), round(h, 2)]
    return {"segmentation": [polygon], "area": 0.75 * w * h, "iscrowd": 0, "bbox": box}


def _run_lengths(box: list[int], size: tuple[int, int]) -> list[int]:
    """Uncompressed run lengths of a box's mask, column by column, beginning with zeros."""
    x, y, w, h = box
    width, height = size
    counts = [x * height + y, h]
    counts += [height - h, h] * (w - 1)
    return [*counts, width * height - sum(counts)]


def _flat(annotation: dict[str, Any]) -> dict[str, Any]:
    """The same without height, as one annotation of COCO's train2017 is."""
    x, y, w, _ = annotation["bbox"]
    polygon = [x, y, x + w, y, x + w, y]
    changed = {"bbox": [x, y, w, 0.0], "area": 0.0, "segmentation": [polygon], "iscrowd": 0}
    return {**annotation, **changed, "category_id": BASE_IDS[0]}


def _write(path: Path, images: list, annotations: list, categories: list) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {
        "info": {"description": "generated for tests", "version": "1.0", "year": 2017},
        "licenses": [{"id": i, "name": f"license {i}", "url": ""} for i in range(1, 9)],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    path.write_text(json.dumps(values), encoding="utf-8")
