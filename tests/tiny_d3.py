"""D³ in small, in the files of its authors: two groups, four pictures, eight sentences."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# By number, whether it tells of an absence; each length that MMDetection tells apart, twice.
SENTENCES: dict[int, tuple[str, bool]] = {
    1: ("red circle", False),
    2: ("a circle with a ring", False),
    3: ("a circle that stands left of a ring", False),
    4: ("a small red circle that stands far to the left of it", False),
    5: ("no ring", True),
    6: ("a square without a ring", True),
    7: ("a square that has no ring at all", True),
    8: ("a small blue square that is not anywhere near to a ring", True),
}
GROUPS = {0: [1, 2, 5, 6, 7], 3: [3, 4, 8]}
WIDTH, HEIGHT = 90, 48
BOXES = [[3, 5, 27, 35], [20, 10, 60, 37]]


def _image(number: int) -> dict[str, Any]:
    group = 0 if number < 2 else 3
    return {
        "id": number,
        "file_name": f"g{group}/{number}.jpg",
        "height": HEIGHT,
        "width": WIDTH,
        "anno_id": [],
        "group_id": group,
        "flickr_url": "",
    }


def tables() -> dict[str, dict[int, dict[str, Any]]]:
    """What the pickles hold."""
    images = {number: _image(number) for number in range(4)}
    annotations: dict[int, dict[str, Any]] = {}
    for number, image in images.items():
        for place, sentence in enumerate(GROUPS[image["group_id"]]):
            name = len(annotations) + 1
            image["anno_id"].append(name)
            annotations[name] = {
                "id": name,
                "sent_id": [sentence],
                "image_id": number,
                "group_id": image["group_id"],
                "bbox": np.array([BOXES[place % 2]]),
                "area": BOXES[place % 2][2] * BOXES[place % 2][3],
                "iscrowd": 0,
            }
    sentences = {
        name: {
            "id": name,
            "raw_sent": text,
            "is_negative": absent,
            "anno_id": [a for a, one in annotations.items() if name in one["sent_id"]],
            "group_id": [group for group, members in GROUPS.items() if name in members],
        }
        for name, (text, absent) in SENTENCES.items()
    }
    groups = {
        name: {"id": name, "inner_sent_id": members, "pos_sent_id": members, "group_name": "g"}
        for name, members in GROUPS.items()
    }
    return {"sentences": sentences, "images": images, "annotations": annotations, "groups": groups}


def write_d3(root: Path) -> Path:
    """Pictures, JSON and pickles below a folder, which is made."""
    made = tables()
    rng = np.random.default_rng(0)
    for image in made["images"].values():
        path = root / "d3_images" / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(path)
    (root / "d3_pkl").mkdir()
    for name, table in made.items():
        (root / "d3_pkl" / f"{name}.pkl").write_bytes(pickle.dumps(table))
    (root / "d3_json").mkdir()
    for part, kinds in (("full", (False, True)), ("pres", (False,)), ("abs", (True,))):
        kept = [name for name, (_, absent) in SENTENCES.items() if absent in kinds]
        annotations = [
            {**one, "bbox": one["bbox"][0].tolist(), "category_id": one["sent_id"][0]}
            for one in made["annotations"].values()
            if one["sent_id"][0] in kept
        ]
        coco = {
            "images": list(made["images"].values()),
            "annotations": annotations,
            "categories": [{"id": name, "name": SENTENCES[name][0]} for name in kept],
        }
        (root / "d3_json" / f"d3_{part}_annotations.json").write_text(json.dumps(coco))
    return root
