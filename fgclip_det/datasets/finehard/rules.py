"""What an item of FineHARD's annotations says, by the rules of either generation of FG-CLIP.

An item is an object of ``f_path``, ``caption`` (long), ``short_caption`` and ``bbox_info``: a list
of ``{"bbox": [x1, y1, x2, y2, ...], "short_expr", "long_expr", "flag_short_neg",
"short_expr_negs": {key: text}}``, boxes as shares of the picture's sides; of the second generation
also ``is_cn`` (360CVGroup/FG-CLIP, data/data.md).

Two sets of rules read it. Those of the authors' code, with ``as_published``, refuse an item for any
key that they miss. Ours, the default, use what can be used:

* a region without a box inside the picture (after clipping), or without text, is left out; behind
  it the next one takes its place among the first `max_boxes`;
* an item without ``bbox_info`` has no regions; one without either caption is left out;
* wrong texts that are empty, repeated, or equal to the right one are left out, and a region that is
  left with none has no hard negatives;
* the second generation's texts are all lower-cased. The authors' code leaves the right text of a
  hard group as it is: where it has capitals, they give it away;
* ``grit-20m/data-12m/`` before a path is cut for both generations, theirs for the first alone;
* ``is_cn`` counts if it is true, theirs wherever it is there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from fgclip_det.datasets.finehard import left_out
from fgclip_det.datasets.finehard.left_out import ItemLeftOut
from fgclip_det.io import quoted

_CUT_FROM_PATH = "grit-20m/data-12m/"
_BEFORE_SHORT_CAPTION = "a photo of "
_ERRORS = (KeyError, TypeError, ValueError, AttributeError, IndexError)

RegionText = Literal["random", "short", "long"]


@dataclass(frozen=True)
class Region:
    """A box with its texts.

    Attributes:
        box: xyxy, as shares of the picture's sides.
        short_text: In a few words.
        long_text: In more.
        hard_group: The right text and then wrong ones; empty where there are no wrong ones.
    """

    box: tuple[float, float, float, float]
    short_text: str
    long_text: str
    hard_group: tuple[str, ...] = ()


@dataclass(frozen=True)
class FineHARDItem:
    """An item as it is trained on, before its picture is read.

    Attributes:
        path: Of the picture, relative to the folder of pictures.
        long_caption: Of the picture.
        short_caption: Of the picture.
        regions: In the order of the file.
        left_out: Kinds of what was left out of it, one entry each.
    """

    path: str
    long_caption: str
    short_caption: str
    regions: tuple[Region, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class FineHARDRules:
    """How items are read; the module tells what the rules are.

    Attributes:
        generation: 1 for FG-CLIP, 2 for FG-CLIP 2.
        max_boxes: Regions of an item, the first ones.
        max_negatives: Wrong texts of a region, the first ones; None for all.
        as_published: Whether to read as the authors' code does.

    Raises:
        ValueError: A value that cannot be.
    """

    generation: int = 1
    max_boxes: int = 4
    max_negatives: int | None = None
    as_published: bool = False
    _lower: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.generation not in (1, 2):
            raise ValueError(f"generation is {self.generation!r}: choose 1 or 2, as of the encoder")
        for name, least in (("max_boxes", 0), ("max_negatives", 0)):
            value = getattr(self, name)
            is_none = value is None and name == "max_negatives"
            if not is_none and (type(value) is not int or value < least):
                raise ValueError(f"{name} is {value!r}: give a whole number from {least}")
        object.__setattr__(self, "_lower", str.lower if self.generation == 2 else str)

    def read(self, record: Any) -> FineHARDItem:
        """An item of an annotation file, as `parse_json` made it.

        Raises:
            ItemLeftOut: It cannot be used; names the kind.
        """
        if not isinstance(record, Mapping):
            raise ItemLeftOut(left_out.NO_ITEM, quoted(record))
        if not self.as_published:
            return self._read(record)
        try:
            return self._read_as_published(record)
        except _ERRORS as error:
            if isinstance(error, ItemLeftOut):
                raise
            detail = f"{type(error).__name__}: {error}"
            raise ItemLeftOut(left_out.AUTHORS_REFUSE, detail) from None

    def _read(self, record: Mapping[str, Any]) -> FineHARDItem:
        path = _checked_path(record.get("f_path"))
        texts = []
        for key, kind in (
            ("caption", left_out.NO_CAPTION),
            ("short_caption", left_out.NO_SHORT_CAPTION),
        ):
            text = record.get(key)
            if not _is_text(text):
                raise ItemLeftOut(kind, f"{key} is {quoted(text)}")
            texts.append(text)
        if record.get("is_cn"):
            if self.generation == 1:
                raise ItemLeftOut(left_out.CHINESE, path)
            return FineHARDItem(path, *map(self._lower, texts), ())
        regions, kinds = self._read_regions(record.get("bbox_info"))
        texts[1] = _BEFORE_SHORT_CAPTION + texts[1]
        return FineHARDItem(path, *map(self._lower, texts), tuple(regions), tuple(kinds))

    def _read_regions(self, entries: Any) -> tuple[list[Region], list[str]]:
        if not isinstance(entries, list):
            return [], [left_out.NO_BOXES]
        regions: list[Region] = []
        kinds: list[str] = []
        for entry in entries:
            if len(regions) == self.max_boxes:
                break
            entry = entry if isinstance(entry, Mapping) else {}
            box = _clipped(entry.get("bbox"))
            if box is None:
                kinds.append(left_out.BAD_BOX)
                continue
            texts = [t for t in map(entry.get, ("short_expr", "long_expr")) if _is_text(t)]
            if not texts:
                kinds.append(left_out.NO_REGION_TEXT)
                continue
            short, long = (self._lower(text) for text in (texts[0], texts[-1]))
            group = self._read_hard_group(entry, kinds)
            regions.append(Region(box, short, long, group))
        return regions, kinds

    def _read_hard_group(self, entry: Mapping[str, Any], kinds: list[str]) -> tuple[str, ...]:
        if entry.get("flag_short_neg") != 1:
            return ()
        right, wrong = entry.get("short_expr"), entry.get("short_expr_negs")
        if not _is_text(right) or not isinstance(wrong, Mapping) or not wrong:
            kinds.append(left_out.NO_NEGATIVES)
            return ()
        right = self._lower(right)
        given = [self._lower(text) for text in wrong.values() if _is_text(text)]
        used = [text for text in dict.fromkeys(given) if text != right]
        kinds += [left_out.BAD_NEGATIVE] * (len(wrong) - len(used))
        used = used[: self.max_negatives]
        return (right, *used) if used else ()

    def _read_as_published(self, record: Mapping[str, Any]) -> FineHARDItem:
        lower = self._lower
        is_chinese = self.generation == 2 and "is_cn" in record
        short = ("" if is_chinese else _BEFORE_SHORT_CAPTION) + record["short_caption"]
        path = _checked_path(record["f_path"], is_cut=self.generation == 1)
        regions = []
        for entry in [] if is_chinese else record["bbox_info"][: self.max_boxes]:
            left, top, right, bottom = map(float, entry["bbox"][:4])
            if left > right or top > bottom:
                raise ValueError("a box is reversed")
            group: tuple[str, ...] = ()
            if entry["flag_short_neg"] == 1:
                wrong = list(entry["short_expr_negs"].values())[: self.max_negatives]
                group = (entry["short_expr"], *map(lower, wrong))
            short_text, long_text = lower(entry["short_expr"]), lower(entry["long_expr"])
            regions.append(Region((left, top, right, bottom), short_text, long_text, group))
        return FineHARDItem(path, lower(record["caption"]), lower(short), tuple(regions))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _checked_path(value: Any, is_cut: bool = True) -> str:
    if not _is_text(value) or "\0" in value:
        raise ItemLeftOut(left_out.NO_PATH, f"f_path is {quoted(value)}")
    path = value.replace(_CUT_FROM_PATH, "") if is_cut else value
    # A data set of others must not read any file of this machine.
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ItemLeftOut(left_out.NO_PATH, f"f_path {quoted(value)} leads out of the folder")
    return path


def _clipped(box: Any) -> tuple[float, float, float, float] | None:
    """A box inside the picture; None where there is nothing of it."""
    if not isinstance(box, list) or len(box) < 4:
        return None
    if not all(type(side) in (int, float) and math.isfinite(side) for side in box[:4]):
        return None
    left, top, right, bottom = (min(max(float(side), 0.0), 1.0) for side in box[:4])
    return (left, top, right, bottom) if left < right and top < bottom else None
