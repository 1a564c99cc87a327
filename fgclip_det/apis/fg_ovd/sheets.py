"""Contact sheets for FG-OVD: objects with their captions as a detector ranks them, as one page."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from fgclip_det.apis.drawing.visualization import draw_boxes
from fgclip_det.apis.fg_ovd.subsets import Subset
from fgclip_det.fg_ovd.confusions import WORD, changed_spans
from fgclip_det.fg_ovd.files import FGOVDVocabulary
from fgclip_det.fg_ovd.nms import box_area, overlap, suppress
from fgclip_det.fg_ovd.predictions import FGOVDPrediction, first_highest, label_scores
from fgclip_det.fg_ovd.vocabulary_boxes import true_boxes
from fgclip_det.io import check_stored_size, read_image, replaced_folder, write_text

# Longer side of a picture on the page, and what of the object's size is shown around it.
_SIDE, _MARGIN = 320, 0.5
_TRUE, _FOUND = "#2ca25f", "#e6550d"
_STYLE = f"""
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 60em; color: #222; }}
section {{ display: flex; gap: 1.5em; padding: 1em 0; border-top: 1px solid #ccc; }}
figure {{ margin: 0; width: {_SIDE}px; flex: none; }}
figcaption {{ color: #666; font-size: 85%; overflow-wrap: anywhere; }}
ol {{ margin: 0; padding-left: 2em; }}
li.right {{ font-weight: 600; color: {_TRUE}; }}
.score {{ color: #666; font-weight: 400; font-variant-numeric: tabular-nums; }}
mark {{ background: #fde0c5; }}
.true {{ color: {_TRUE}; }} .found {{ color: {_FOUND}; }}
"""


class Answer(NamedTuple):
    """The detection that answers for an object, as the metric's ranks take it.

    Attributes:
        box: (4,) xyxy, in pixels of the picture as stored.
        scores: (1 + N,) of the right caption and its negatives.
    """

    box: np.ndarray
    scores: np.ndarray


def write_sheet(
    folder: Path, subset: Subset, predictions: Sequence[FGOVDPrediction], number: int
) -> Path:
    """Write a page without a server's help: ``index.html`` and its pictures beside it.

    Args:
        folder: Of this page alone: what was there is replaced, whole or not at all.
        subset: Of `find_subsets`.
        predictions: For its N.
        number: Objects on the page, spread over the subset.

    Returns:
        The page.

    Raises:
        ValueError: A picture cannot be read, or `check_stored_size` says no.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replaced_folder(folder) as partial:
        objects = _objects(subset, {one.annotation_id: one for one in predictions})
        step = max(1, len(objects) / max(1, number))
        chosen = [objects[int(place * step)] for place in range(min(number, len(objects)))]
        img_paths = subset.img_paths
        sizes = {image["id"]: (image["width"], image["height"]) for image in subset.file.images}
        sections = []
        for annotation_id, box, vocabulary, prediction in chosen:
            path = img_paths[vocabulary.image_id]
            answer = answer_of(prediction, box)
            name = f"{annotation_id}.jpg"
            _picture(path, sizes[vocabulary.image_id], box, answer).save(partial / name, quality=90)
            captions = subset.file.captions_of(vocabulary)
            sections.append(_section(annotation_id, name, path, captions, answer))
        write_text(partial / "index.html", _page(subset, len(objects), sections))
    return folder / "index.html"


def answer_of(prediction: FGOVDPrediction, box: np.ndarray) -> Answer | None:
    """The best box of those that survive suppression and overlap an object; see `rank_boxes`.

    Args:
        prediction: For the object's vocabulary.
        box: (4,) float32, xyxy: the object.
    """
    boxes, scores, labels = prediction.boxes, prediction.scores, prediction.labels
    if not len(boxes):
        return None
    best = label_scores(scores, first_highest(scores) if labels is None else labels)
    iou = overlap((*box, box_area(box)), (*boxes.T, box_area(boxes)))
    near = np.flatnonzero(suppress(np.zeros(len(boxes), int), boxes, best) & (iou > 0.5))
    if not len(near):
        return None
    row = near[best[near].argmax()]
    return Answer(boxes[row], scores[row])


def marked(right: str, other: str) -> str:
    """HTML of a caption, with the words marked that are not those of the right one."""
    words = list(WORD.finditer(other))
    one, two = ([w.group().lower() for w in WORD.finditer(text)] for text in (right, other))
    parts, end = [], 0
    for _, _, first, last in changed_spans(one, two):
        if first == last:
            continue
        start, stop = words[first].start(), words[last - 1].end()
        parts += [html.escape(other[end:start]), f"<mark>{html.escape(other[start:stop])}</mark>"]
        end = stop
    return "".join([*parts, html.escape(other[end:])])


def _objects(
    subset: Subset, answered: Mapping[int, FGOVDPrediction]
) -> list[tuple[int, np.ndarray, FGOVDVocabulary, FGOVDPrediction]]:
    """Annotations whose vocabulary was asked: id, box, vocabulary and what came of it."""
    vocabularies = subset.file.vocabularies(subset.n_negatives)
    asked = [one for one in vocabularies if one.annotation_id in answered]
    truth = true_boxes(subset.file, asked)
    return [
        (number, box, asked[place], answered[asked[place].annotation_id])
        for number, place, box in zip(
            truth.annotation_ids.tolist(), truth.vocabulary.tolist(), truth.boxes, strict=True
        )
    ]


def _picture(
    path: str, size: tuple[float, float], box: np.ndarray, answer: Answer | None
) -> Image.Image:
    """The object with what is around it, and both boxes."""
    image = Image.fromarray(read_image(path, "stored"))
    check_stored_size(path, image.size, size)
    shown = [box] if answer is None else [box, answer.box]
    corners = np.stack(shown)
    low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    margin = np.maximum((high - low) * _MARGIN, 8)
    left, top = np.floor(np.maximum(low - margin, 0)).astype(int)
    right, bottom = np.ceil(np.minimum(high + margin, image.size)).astype(int)
    crop = image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    scale = _SIDE / max(crop.size)
    size = [max(1, round(side * scale)) for side in crop.size]
    canvas = crop.convert("RGB").resize(size, Image.BICUBIC)
    boxes = ((corners.reshape(-1, 2, 2) - (left, top)) * scale).reshape(-1, 4)
    draw_boxes(canvas, boxes.tolist(), (_TRUE, _FOUND)[: len(shown)], line=3)
    return canvas


def _section(
    annotation_id: int,
    picture: str,
    path: str,
    captions: Sequence[str],
    answer: Answer | None,
) -> str:
    told = f"object {annotation_id}, {html.escape(path)}"
    figure = (
        f'<figure><img src="{picture}" alt="object {annotation_id}">'
        f"<figcaption>{told}</figcaption></figure>"
    )
    if answer is None:
        places: Sequence[int] = range(len(captions))
        scores = [""] * len(captions)
        verdict = f"no detection overlaps it: rank {len(captions)}"
    else:
        # A caption that scores as high as the right one costs a rank, so it stands above.
        places = sorted(range(len(captions)), key=lambda p: (-answer.scores[p], p == 0))
        scores = [f' <span class="score">{score:.3f}</span>' for score in answer.scores]
        verdict = f"rank {places.index(0) + 1} of {len(captions)}"
    items = []
    for place in places:
        kind = " class=right" if place == 0 else ""
        items.append(f"<li{kind}>{marked(captions[0], captions[place])}{scores[place]}</li>")
    return f"<section>{figure}<div><p>{verdict}</p><ol>{''.join(items)}</ol></div></section>"


def _page(subset: Subset, total: int, sections: Sequence[str]) -> str:
    title = f"FG-OVD, {html.escape(subset.name)}: {len(sections)} of {total} objects"
    legend = (
        f"N = {subset.n_negatives}. The right caption is <span class=true>green</span>; what the "
        "others say instead is <mark>marked</mark>. Boxes: <span class=true>the object</span>, "
        "<span class=found>the detection that answers for it</span>."
    )
    return (
        f"<!doctype html>\n<html lang=en><meta charset=utf-8><title>{title}</title>"
        f"<style>{_STYLE}</style>\n<h1>{title}</h1>\n<p>{legend}</p>\n" + "\n".join(sections) + "\n"
    )
