"""Label Studio: ``labelstudio/tasks.json`` with predictions, and ``config.xml``; boxes as shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from fgclip_det.apis.labelling.formats.splits import LabelSplits
from fgclip_det.apis.labelling.formats.xml_text import as_xml
from fgclip_det.apis.labelling.labels import LabelledPicture
from fgclip_det.io import write_bytes, write_json

# What Label Studio calls files below its LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT.
_LOCAL_FILES = "/data/local-files/?d="


def write(folder: Path, splits: LabelSplits) -> None:
    """Write the tasks and the labelling config that they are of.

    The split of a task is in its data. Boxes are in percent of the picture as a browser shows it.

    Raises:
        OSError: Writing failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [
        _task(picture, split, splits.names)
        for split, pictures in splits.pictures.items()
        for picture in pictures
    ]
    write_json(folder / "tasks.json", tasks)
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", {"name": "image", "value": "$image"})
    choice = ElementTree.SubElement(view, "RectangleLabels", {"name": "label", "toName": "image"})
    for name in splits.names:
        ElementTree.SubElement(choice, "Label", {"value": name})
    write_bytes(folder / "config.xml", as_xml(view))


def _task(picture: LabelledPicture, split: str, names: Sequence[str]) -> dict[str, Any]:
    width, height = picture.size("shown")
    results = []
    for place, label in enumerate(picture.labels):
        left, top, right, bottom = label.box
        results.append(
            {
                "id": f"{picture.sha256[:12]}-{place}",
                "type": "rectanglelabels",
                "from_name": "label",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "score": label.score,
                "value": {
                    "x": 100 * left / width,
                    "y": 100 * top / height,
                    "width": 100 * (right - left) / width,
                    "height": 100 * (bottom - top) / height,
                    "rotation": 0,
                    "rectanglelabels": [names[label.name]],
                },
            }
        )
    least = min((label.score for label in picture.labels), default=0.0)
    return {
        "data": {
            "image": _LOCAL_FILES + quote(picture.file),
            "file": picture.file,
            "split": split,
            "sha256": picture.sha256,
        },
        "predictions": [{"model_version": "fgclip_det", "score": least, "result": results}],
    }
