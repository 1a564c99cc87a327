"""A page of the labels that are least certain, to be looked at before anything is trained."""

from __future__ import annotations

import heapq
import html
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fgclip_det.apis.drawing.visualization import draw_boxes, shortened
from fgclip_det.apis.labelling.labels import Label, LabelledPicture
from fgclip_det.apis.labelling.run import Labels
from fgclip_det.io import read_image, replaced_folder, write_image, write_text

# Longer side of a picture on the page, and what of the object's size is shown around it.
_SIDE, _MARGIN = 240, 0.75
_COLOR = "#e6550d"
_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 80em; color: #222; }
main { display: flex; flex-wrap: wrap; gap: 1.2em; }
figure { margin: 0; width: 240px; }
figcaption { font-size: 85%; overflow-wrap: anywhere; }
.file { color: #666; }
"""


def least_certain(labels: Labels, number: int) -> list[tuple[LabelledPicture, Label]]:
    """The labels whose score is least above the threshold of their name, the least first.

    Args:
        labels: Of a run.
        number: How many at most.
    """
    limits = labels.settings.thresholds

    def every() -> Iterator[tuple[float, int, int]]:
        for place, picture in enumerate(labels.pictures):
            for row, label in enumerate(picture.labels):
                yield label.score - limits[label.name], place, row

    chosen = heapq.nsmallest(number, every())
    return [
        (labels.pictures[place], labels.pictures[place].labels[row]) for _, place, row in chosen
    ]


def write_review(folder: Path, pictures: Path, labels: Labels, number: int) -> Path:
    """Write ``index.html`` with its pictures beside it; a page that is there is replaced.

    Args:
        folder: Of this page alone.
        pictures: The folder that was labelled.
        labels: What was found in it.
        number: Labels on the page.

    Returns:
        The page.

    Raises:
        ValueError: A picture cannot be read any more.
        OSError: Writing failed.
    """
    chosen = least_certain(labels, number)
    with replaced_folder(folder) as partial:
        figures = []
        for place, (picture, label) in enumerate(chosen):
            name = f"{place:04d}.jpg"
            write_image(partial / name, _crop(pictures / picture.file, label))
            figures.append(_figure(name, picture, label, labels.settings.names))
        total = sum(len(picture.labels) for picture in labels.pictures)
        write_text(partial / "index.html", _page(figures, total))
    return folder / "index.html"


def _crop(path: Path, label: Label) -> Image.Image:
    """The object with what is around it, and its box."""
    image = Image.fromarray(read_image(path))
    box = np.array(label.box)
    margin = np.maximum((box[2:] - box[:2]) * _MARGIN, 8)
    left, top = np.floor(np.maximum(box[:2] - margin, 0)).astype(int).tolist()
    right, bottom = np.ceil(np.minimum(box[2:] + margin, image.size)).astype(int).tolist()
    crop = image.crop((left, top, right, bottom))
    scale = _SIDE / max(crop.size)
    canvas = crop.resize([max(1, round(side * scale)) for side in crop.size], Image.BICUBIC)
    shown = ((box.reshape(2, 2) - (left, top)) * scale).ravel().tolist()
    draw_boxes(canvas, [shown], [_COLOR], line=2)
    return canvas


def _figure(name: str, picture: LabelledPicture, label: Label, names: Sequence[str]) -> str:
    told = html.escape(shortened(names[label.name]))
    file = html.escape(picture.file)
    return (
        f'<figure><img src="{name}" alt="{told}"><figcaption>{label.score:.3f} <b>{told}</b><br>'
        f"<span class=file>{file}</span></figcaption></figure>"
    )


def _page(figures: Sequence[str], total: int) -> str:
    title = f"The {len(figures)} least certain of {total} labels"
    return (
        f"<!doctype html>\n<html lang=en><meta charset=utf-8><title>{title}</title>"
        f"<style>{_STYLE}</style>\n<h1>{title}</h1>\n<main>\n" + "\n".join(figures) + "\n</main>\n"
    )
