"""Small data in FineHARD's format, and the authors' reference items."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def region(number: int = 0, **changes) -> dict:
    """An entry of ``bbox_info``; a change to None takes a key away."""
    entry = {
        "bbox": [0.1, 0.2, 0.5, 0.9],
        "short_expr": f"a cup {number}",
        "long_expr": f"a cup {number} on a table",
        "flag_short_neg": 1,
        "short_expr_negs": {str(i): f"a pot {number} {i}" for i in range(10)},
        **changes,
    }
    return {key: value for key, value in entry.items() if value is not None}


def record(number: int = 0, **changes) -> dict:
    """An item of an annotation file; a change to None takes a key away."""
    item = {
        "f_path": f"coyo_image_0/00000/{number:09d}.png",
        "caption": f"The long caption of picture {number}.",
        "short_caption": f"picture {number}",
        "bbox_info": [region(number)],
        **changes,
    }
    return {key: value for key, value in item.items() if value is not None}


def write_pictures(folder: Path, records: list[dict]) -> None:
    """A picture for each item, 12 x 10 pixels of a grey of its own."""
    for number, item in enumerate(records):
        path = folder / item["f_path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((10, 12, 3), number % 256, np.uint8)).save(path)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Annotation files (30 and 25 items, numbers 0 to 54) and pictures, all of them whole."""
    folder = tmp_path_factory.mktemp("published")
    records = [record(number) for number in range(55)]
    write_pictures(folder / "images", records)
    (folder / "annotations").mkdir()
    for name, part in (("a.json", records[:30]), ("b.json", records[30:])):
        (folder / "annotations" / name).write_text(json.dumps(part))
    return folder / "annotations", folder / "images"
