"""FG-OVD's files: boxes whose caption must be told from its negatives, one vocabulary each.

The format is the one that the benchmark publishes: JSON like COCO's, in which every caption is a
category, and JSON lines like those of FG-CLIP's accuracy protocol. Both the dataset and the metric
read them here, where each may.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from reprlib import repr as short
from typing import Any

from fgclip_det.io import is_id, read_json, read_json_lines

_LISTS = ("images", "annotations", "categories")
_LINE_KEYS = ("img_path", "bbox", "pos_expression", "neg_expression")
_MOST_PIXELS = 1e9


@dataclass(frozen=True)
class FGOVDVocabulary:
    """Captions that a detector is asked for in one image: the right one, then its negatives.

    Attributes:
        annotation_id: The first annotation that bears the right caption; the vocabulary's name.
        image_id: Image of that annotation.
        category_ids: The caption's category, then those of its first N negatives.
    """

    annotation_id: int
    image_id: int
    category_ids: tuple[int, ...]


@dataclass(frozen=True)
class FGOVDFile:
    """A benchmark file in memory, checked.

    Attributes:
        source: Path, or "ground_truth" for what was given in memory.
        images: Its images, in the order of the file.
        annotations: Its annotations, in the order of the file; ``bbox`` is xywh in pixels.
        captions: Caption of each category id.
    """

    source: str
    images: tuple[dict[str, Any], ...]
    annotations: tuple[dict[str, Any], ...]
    captions: dict[int, str]

    def vocabularies(self, n_negatives: int) -> list[FGOVDVocabulary]:
        """One vocabulary for each distinct caption that has enough negatives.

        Captions are told apart by category id, never by text. The first annotation that bears one
        decides: where it has too few negatives the caption is left out, whatever later ones have.

        Args:
            n_negatives: Negatives of a vocabulary; the first so many are taken.

        Returns:
            In the order of the annotations; empty where none has that many.

        Raises:
            ValueError: ``n_negatives`` is no number from 0.
        """
        check_n_negatives(n_negatives)
        first: dict[int, dict[str, Any]] = {}
        for annotation in self.annotations:
            first.setdefault(annotation["category_id"], annotation)
        return [
            FGOVDVocabulary(
                annotation["id"],
                annotation["image_id"],
                (category_id, *annotation["neg_category_ids"][:n_negatives]),
            )
            for category_id, annotation in first.items()
            if len(annotation["neg_category_ids"]) >= n_negatives
        ]

    def eligible(self, n_negatives: int) -> list[FGOVDVocabulary]:
        """The `vocabularies` that count with so many negatives; at least one.

        Raises:
            ValueError: There is none, or ``n_negatives`` is no number from 0.
        """
        found = self.vocabularies(n_negatives)
        if not found:
            raise ValueError(
                f"no annotation of {self.source} has {n_negatives} negatives: use at most "
                f"{self.max_negatives}"
            )
        return found

    def captions_of(self, vocabulary: FGOVDVocabulary) -> list[str]:
        """Texts of a vocabulary, the right caption first."""
        return [self.captions[number] for number in vocabulary.category_ids]

    @property
    def max_negatives(self) -> int:
        """The most negatives that any annotation has."""
        return max((len(one["neg_category_ids"]) for one in self.annotations), default=0)


@dataclass(frozen=True)
class FGOVDLine:
    """One box of FG-CLIP's accuracy protocol.

    Attributes:
        file_name: Picture, relative to COCO's root.
        box: xyxy, in pixels of the picture as stored.
        captions: The right caption, then its negatives.
        subset: Name of the subset, e.g. "1_attributes"; "" where the line has none.
        size: Annotated width and height of the picture; None where the file does not tell.
    """

    file_name: str
    box: tuple[float, float, float, float]
    captions: tuple[str, ...]
    subset: str
    size: tuple[float, float] | None = None


def check_n_negatives(n_negatives: Any) -> None:
    """Refuse what is no number of negatives.

    Raises:
        ValueError: It is not a whole number from 0.
    """
    whole = isinstance(n_negatives, Integral) and not isinstance(n_negatives, bool)
    if not whole or n_negatives < 0:
        raise ValueError(f"n_negatives is {n_negatives!r}: give a whole number from 0, such as 5")


def read_fg_ovd(source: str | Path | Mapping[str, Any] | FGOVDFile) -> FGOVDFile:
    """Read a benchmark, training or validation file of FG-OVD and check every entry.

    Of images only the ids are checked: scores need no picture.

    Args:
        source: Path of the JSON, its content, or what this function gave before.

    Raises:
        ValueError: The file is missing, truncated or no such file, or an entry lacks a field, bears
            the id of another, or names an image or a category that the file does not list.
    """
    if isinstance(source, FGOVDFile):
        return source
    if isinstance(source, Mapping):
        name, values = "ground_truth", source
    else:
        name, values = repr(str(source)), read_json(source, max_bytes=None)
    for key in _LISTS:
        entries = values.get(key) if isinstance(values, Mapping) else None
        if not isinstance(entries, list | tuple) or not all(isinstance(e, dict) for e in entries):
            raise ValueError(f"{name} is not in FG-OVD's format: it has no list of objects {key!r}")
    images = _by_id(name, "image", values["images"])
    categories = _by_id(name, "category", values["categories"])
    for number, category in categories.items():
        if not isinstance(category.get("name"), str):
            raise ValueError(f"{name}: category {number} has no 'name', which is its caption")
    for number, annotation in _by_id(name, "annotation", values["annotations"]).items():
        problem = _annotation_problem(annotation, images, categories)
        if problem:
            raise ValueError(f"{name}: annotation {number} {problem}")
    return FGOVDFile(
        source=name,
        images=tuple(values["images"]),
        annotations=tuple(values["annotations"]),
        captions={number: category["name"] for number, category in categories.items()},
    )


def read_fg_ovd_lines(path: str | Path) -> list[FGOVDLine]:
    """Read the JSON lines of FG-CLIP's accuracy protocol (``*_llava.jsonl``).

    Args:
        path: One object a line: ``img_path``, ``bbox`` (xywh, px), ``pos_expression`` (one text),
            ``neg_expression`` (texts, possibly none) and perhaps ``test_type``.

    Raises:
        ValueError: The file is missing or empty, or a line cannot be read; it is named.
    """
    lines = list(_lines(path))
    if not lines:
        raise ValueError(f"{str(path)!r} is empty: get it again")
    return lines


def _lines(path: str | Path) -> Iterator[FGOVDLine]:
    for where, values in read_json_lines(path):
        lacking = [k for k in _LINE_KEYS if not isinstance(values, dict) or k not in values]
        if lacking:
            raise ValueError(f"{where} has no {lacking[0]!r}: take a *_llava.jsonl file")
        problem = _box_problem(values["bbox"])
        if not isinstance(values["img_path"], str) or not values["img_path"]:
            problem = f"has the img_path {short(values['img_path'])}: a path is needed"
        if problem:
            raise ValueError(f"{where} {problem}")
        positive, negatives = values["pos_expression"], values["neg_expression"]
        if not _are_texts(positive) or not _are_texts(negatives) or len(positive) != 1:
            raise ValueError(
                f"{where} needs one text in 'pos_expression' and a list of texts in "
                f"'neg_expression', not {short(positive)} and {short(negatives)}"
            )
        x, y, width, height = values["bbox"]
        yield FGOVDLine(
            values["img_path"],
            (x, y, x + width, y + height),
            (*positive, *negatives),
            str(values.get("test_type", "")),
        )


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _by_id(name: str, what: str, entries: Any) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for index, entry in enumerate(entries):
        number = entry.get("id")
        if not is_id(number):
            raise ValueError(
                f"{name}: {what} number {index} has the id {short(number)}: no int of 64 bits"
            )
        if number in found:
            raise ValueError(f"{name}: two entries bear the {what} id {number}: keep one")
        found[number] = entry
    return found


def _annotation_problem(
    annotation: dict[str, Any], images: Mapping[int, Any], categories: Mapping[int, Any]
) -> str | None:
    for key, listed in (("image_id", images), ("category_id", categories)):
        number = annotation.get(key)
        if type(number) is not int or number not in listed:
            return f"has the {key} {short(number)}, which the file does not list"
    negatives = annotation.get("neg_category_ids")
    if not isinstance(negatives, list | tuple):
        found = short(negatives)
        return f"has the neg_category_ids {found}: a list is needed, empty if there are none"
    for number in negatives:
        if type(number) is not int or number not in categories:
            return f"has the negative {short(number)}, which is no category of the file"
    return _box_problem(annotation.get("bbox"))


def _box_problem(box: Any) -> str | None:
    if not isinstance(box, list | tuple) or len(box) != 4 or not all(map(_is_number, box)):
        return f"has the bbox {short(box)}: four numbers are needed, x, y, width and height"
    if box[2] < 0 or box[3] < 0:
        return f"has the bbox {short(box)}: its width or height is negative"
    return None


def _is_number(value: Any) -> bool:
    # False for NaN, infinities and what overflows in later sums.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) <= _MOST_PIXELS
