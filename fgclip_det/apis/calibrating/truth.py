"""What is in pictures: from an annotation file, or nothing of what is looked for."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fgclip_det.apis.inputs.kinds import is_url
from fgclip_det.datasets.annotation_files import (
    AnnotationFile,
    image_file_name,
    read_annotations,
)
from fgclip_det.datasets.image_files import check_image_paths
from fgclip_det.evaluation.presence.counts import box_iou
from fgclip_det.evaluation.presence.summary import RIGHT_IOU
from fgclip_det.io import listed
from fgclip_det.vocabulary import Attributes, TextEmbeddings, Vocabulary
from fgclip_det.vocabulary.bank_words import BankWords
from fgclip_det.vocabulary.same_words import same_words

_NO_BOXES = np.zeros((0, 4), np.float32)


@dataclass(frozen=True)
class KnownPicture:
    """A picture, and all boxes of what is looked for.

    Attributes:
        path: Its file.
        size: Width and height in pixels that the boxes are in; None where there are none.
        boxes: By row of the texts (N, 4) float32, xyxy, in pixels of the picture as stored.
        crowds: As `boxes`, around groups: what is in them is neither right nor wrong.
    """

    path: str
    size: tuple[int, int] | None = None
    boxes: Mapping[int, np.ndarray] = field(default_factory=dict)
    crowds: Mapping[int, np.ndarray] = field(default_factory=dict)

    def verdicts(self, boxes: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which boxes are right, and which count.

        Args:
            boxes: (M, 4) float32, xyxy.
            labels: (M,) int64, rows of the texts.

        Returns:
            Twice (M,) bool. A second box of one object is right too: it is no false alarm.
        """
        right = np.zeros(len(boxes), bool)
        counts = np.ones(len(boxes), bool)
        for label in np.unique(labels):
            own = labels == label
            true = self.boxes.get(int(label), _NO_BOXES)
            right[own] = (box_iou(boxes[own], true) >= RIGHT_IOU).any(axis=1)
            crowds = self.crowds.get(int(label), _NO_BOXES)
            inside = box_iou(boxes[own], crowds, are_crowds=True)
            counts[own] = right[own] | ~(inside >= RIGHT_IOU).any(axis=1)
        return right, counts


def absent_pictures(paths: Iterable[str | os.PathLike]) -> list[KnownPicture]:
    """Pictures without anything that is looked for, each once: again it is no more evidence.

    Args:
        paths: Files, as `Path`, or addresses, as text. Those that are given again are warned of.
    """
    paths = list(paths)
    once: dict[str, str] = {}
    for path in map(os.fspath, paths):
        once.setdefault(path if is_url(path) else os.path.realpath(path), path)
    if len(once) < len(paths):
        warnings.warn(
            f"{len(paths) - len(once)} of {len(paths)} pictures were given before, and count once: "
            "a bound is of pictures that are drawn one by one",
            stacklevel=2,
        )
    return [KnownPicture(path) for path in once.values()]


def known_pictures(
    file: str | os.PathLike,
    folder: str | os.PathLike,
    texts: TextEmbeddings,
    attributes: Attributes | None = None,
) -> list[KnownPicture]:
    """Pictures of an annotation file, in its order.

    Args:
        file: COCO-style; every object of the names is annotated in each of its pictures.
        folder: That its file names are relative to.
        texts: Names that are looked for: categories of the file, articles and case aside, or names
            that say less, whose boxes are those of all categories with attributes added: of "a
            ring" those of "cyan striped ring".
        attributes: Lists of what is but an attribute; None for none, and categories alone.

    Raises:
        ValueError: The file cannot be read or lists no pictures, a picture is missing or stands
            there twice, or a name is no category and has no kinds among them.
    """
    truth = read_annotations(file)
    if not truth.images:
        raise ValueError(f"{str(file)!r} lists no pictures: give one that does")
    paths = {i["id"]: str(Path(folder) / image_file_name(i)) for i in truth.images}
    check_image_paths(paths.values())
    files = Counter(map(os.path.realpath, paths.values()))
    twice = [path for path, count in files.items() if count > 1]
    if twice:
        raise ValueError(
            f"{str(file)!r} lists pictures twice ({listed(twice, 'pictures twice')}): keep one each"
        )
    labels = _labels(truth, texts, attributes)
    boxes: dict[int, dict[int, list]] = {number: {} for number in paths}
    crowds: dict[int, dict[int, list]] = {number: {} for number in paths}
    for one in truth.annotations:
        x, y, width, height = one["bbox"]
        into = crowds if one.get("iscrowd") else boxes
        for label in labels.get(one["category_id"], ()):
            into[one["image_id"]].setdefault(label, []).append([x, y, x + width, y + height])
    return [
        KnownPicture(
            paths[image["id"]],
            (int(image["width"]), int(image["height"])),
            _arrays(boxes[image["id"]]),
            _arrays(crowds[image["id"]]),
        )
        for image in truth.images
    ]


def _labels(
    truth: AnnotationFile, texts: TextEmbeddings, attributes: Attributes | None
) -> dict[int, list[int]]:
    """Rows of the texts that mean the same as each category id, or of which it is a kind."""
    # Several categories may bear one name, and several names mean one category.
    ids: dict[str, list[int]] = {}
    for category in truth.categories:
        ids.setdefault(category["name"], []).append(category["id"])
    labels: dict[int, list[int]] = {}
    known: set[int] = set()
    names = list(ids)
    while (found := texts.find(names).tolist()) and max(found) >= 0:
        pairs = [(label, names[place]) for label, place in enumerate(found) if place >= 0]
        for label, name in pairs:
            known.add(label)
            for number in ids[name]:
                labels.setdefault(number, []).append(label)
        taken = {name for _, name in pairs}
        names = [name for name in names if name not in taken]
    general = [label for label in range(len(texts)) if label not in known]
    for label, name in _kinds(texts, general, list(ids), attributes):
        known.add(label)
        for number in ids[name]:
            labels.setdefault(number, []).append(label)
    unknown = [name for label, name in enumerate(texts.names) if label not in known]
    if unknown:
        raise ValueError(
            f"no category of {str(truth.path)!r} is {listed(unknown, 'unknown names')}: ask for "
            "its categories, or give pictures without the things as --absent"
        )
    return labels


def _kinds(
    texts: TextEmbeddings,
    labels: Sequence[int],
    names: Sequence[str],
    attributes: Attributes | None,
) -> Iterator[tuple[int, str]]:
    """Some rows of the texts, with each of the names that says one of them and attributes."""
    # Numbered: those that differ in blanks alone would be merged.
    numbered = {str(place): [name] for place, name in enumerate(names) if name.strip()}
    if not labels or not numbered:
        return
    vocabulary = Vocabulary.parse(numbered)
    words = BankWords(vocabulary, attributes)
    for label in labels:
        said = {same_words(word) for word in (texts.names[label], *texts.prompts[label])}
        for row in words.kinds(said):
            yield label, names[int(vocabulary.names[row])]


def _arrays(boxes: Mapping[int, Sequence[Sequence[float]]]) -> dict[int, np.ndarray]:
    return {label: np.array(own, np.float32) for label, own in boxes.items()}
