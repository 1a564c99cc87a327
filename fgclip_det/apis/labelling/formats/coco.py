"""COCO detection JSON: ``coco/annotations/{train,val}.json``, boxes in the frame of the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fgclip_det.apis.labelling.formats.splits import LabelSplits
from fgclip_det.apis.labelling.labels import LabelledPicture
from fgclip_det.io import write_json


def write(folder: Path, splits: LabelSplits) -> None:
    """Write a file for each split.

    Categories have the ids 1 to C in the order asked, images and annotations count from 1 in the
    order of the paths. ``file_name`` is below the folder that was labelled. Width, height and
    boxes are those of the picture as stored, without the turn of its EXIF entry, as this package's
    datasets read it. An annotation keeps its ``score``.

    Raises:
        OSError: Writing failed.
    """
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for name, pictures in splits.pictures.items():
        write_json(folder / "annotations" / f"{name}.json", as_coco(splits.names, pictures), None)


def as_coco(names: Sequence[str], pictures: Sequence[LabelledPicture]) -> dict[str, Any]:
    """The values of a file; `write` tells what they are."""
    images, annotations = [], []
    for picture in pictures:
        width, height = picture.size("stored")
        images.append(
            {
                "id": len(images) + 1,
                "file_name": picture.file,
                "width": width,
                "height": height,
                "sha256": picture.sha256,
            }
        )
        for label in picture.labels:
            left, top, right, bottom = picture.box(label, "stored")
            sides = round(right - left, 2), round(bottom - top, 2)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": label.name + 1,
                    "bbox": [round(left, 2), round(top, 2), *sides],
                    "area": round(sides[0] * sides[1], 2),
                    "iscrowd": 0,
                    "score": label.score,
                }
            )
    categories = [{"id": place, "name": name} for place, name in enumerate(names, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}
