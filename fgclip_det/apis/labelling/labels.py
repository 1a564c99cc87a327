"""What a labelling run knows of each picture, and one label for each object."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import ExifTags

from fgclip_det.compat import nms
from fgclip_det.io import quoted, sha256_of
from fgclip_det.io.images import opened_picture
from fgclip_det.io.picture_headers import read_header

Frame = Literal["stored", "shown"]
SPLITS = ("train", "val")


@dataclass(frozen=True)
class Label:
    """A box with its name.

    Attributes:
        name: Place of its name among those that were asked for.
        score: Its confidence, or its score where there are no confidences; in [0, 1].
        box: xyxy, in pixels of the picture as shown (EXIF rotation applied).
    """

    name: int
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class LabelledPicture:
    """A picture with its labels.

    Attributes:
        file: Its path below the folder that was labelled, parts divided by "/".
        sha256: Of its file.
        width: As shown, in pixels.
        height: As shown, in pixels.
        orientation: Its EXIF entry, 1 to 8.
        labels: Best first.
    """

    file: str
    sha256: str
    width: int
    height: int
    orientation: int
    labels: tuple[Label, ...]

    def size(self, frame: Frame) -> tuple[int, int]:
        """Width and height in pixels of a frame."""
        is_turned = frame == "stored" and self.orientation in (5, 6, 7, 8)
        return (self.height, self.width) if is_turned else (self.width, self.height)

    def box(self, label: Label, frame: Frame) -> tuple[float, float, float, float]:
        """A label's box, xyxy, in pixels of a frame."""
        if frame == "shown":
            return label.box
        return stored_box(label.box, self.width, self.height, self.orientation)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a line of the run's file holds them."""
        labels = [[one.name, one.score, *one.box] for one in self.labels]
        return {
            "file": self.file,
            "sha256": self.sha256,
            "size": [self.width, self.height],
            "orientation": self.orientation,
            "labels": labels,
        }

    @classmethod
    def from_dict(cls, values: Any) -> LabelledPicture:
        """What `to_dict` gave.

        Raises:
            ValueError: It is no such thing.
        """
        try:
            labels = [Label(int(row[0]), float(row[1]), tuple(row[2:])) for row in values["labels"]]
            width, height = values["size"]
            entry = values["orientation"]
            return cls(values["file"], values["sha256"], width, height, entry, tuple(labels))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"{quoted(values)} is no labelled picture: remove the file") from error


def stored_box(
    box: Sequence[float], width: int, height: int, orientation: int
) -> tuple[float, float, float, float]:
    """A box of a picture as shown, in the frame of its file.

    Args:
        box: xyxy, in pixels of the picture as shown.
        width: Of the picture as shown.
        height: Likewise.
        orientation: The EXIF entry; what is none of 2 to 8 turns nothing.

    Returns:
        xyxy, in pixels of the picture as stored.
    """
    x1, y1, x2, y2 = box
    flipped = (width - x2, height - y2, width - x1, height - y1)
    left, top, right, bottom = flipped
    return {
        2: (left, y1, right, y2),
        3: flipped,
        4: (x1, top, x2, bottom),
        5: (y1, x1, y2, x2),
        6: (y1, left, y2, right),
        7: (top, left, bottom, right),
        8: (top, x1, bottom, x2),
    }.get(orientation, (x1, y1, x2, y2))


def orientation_of(path: Path) -> int:
    """The EXIF entry of a picture, 1 where there is none that turns it.

    Raises:
        ValueError: It cannot be read.
    """
    with opened_picture(path) as (image, _):
        entry = image.getexif().get(ExifTags.Base.Orientation)
    return entry if entry in range(2, 9) else 1


def one_label_each(
    boxes: np.ndarray, scores: np.ndarray, names: np.ndarray, iou_threshold: float
) -> np.ndarray:
    """Keep one label for each object: of boxes that overlap, whatever their names, the best.

    Args:
        boxes: (M, 4) float, xyxy.
        scores: (M,) float; of equal ones the name that was asked for first stays.
        names: (M,) int, places of the names asked.
        iou_threshold: Boxes that overlap by more are of one object.

    Returns:
        (K,) int, rows that are kept, best first.
    """
    order = np.lexsort((np.arange(len(scores)), names, -scores))
    # Where scores are equal, torchvision's order is that of the rows.
    ranked = torch.from_numpy(boxes[order]), torch.from_numpy(scores[order])
    return order[nms(*ranked, iou_threshold).numpy()]


def read_thresholds(
    names: Sequence[str], least: float | Sequence[float], given: Mapping[str, Any] | None
) -> list[float]:
    """A threshold for each name.

    Args:
        names: What is asked for.
        least: For names without one of their own, or for each name.
        given: Thresholds by name.

    Raises:
        ValueError: One is out of [0, 1], or belongs to a name that is not asked for.
    """
    given = dict(given or {})
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ValueError(
            f"there is a threshold for {quoted(unknown[0])}, which is not asked for: the names are "
            f"{', '.join(map(quoted, names[:5]))}{', ...' if len(names) > 5 else ''}"
        )
    others = {} if isinstance(least, Sequence) else {"all names": least}
    for name, value in [*others.items(), *given.items()]:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not 0 <= value <= 1:
            raise ValueError(
                f"the threshold of {quoted(name)} is {quoted(value)}: give a number from 0 to 1"
            )
    each = least if isinstance(least, Sequence) else [least] * len(names)
    return [float(given.get(name, own)) for name, own in zip(names, each, strict=True)]


def split_of(picture: str, val_share: float, seed: int = 0) -> str:
    """Which split a picture is in: by its checksum, so that other pictures change nothing.

    Args:
        picture: Its checksum; two copies of a picture are never in different splits.
        val_share: Share of pictures that is in "val".
        seed: Of other splits.
    """
    digest = hashlib.sha256(f"{seed} {picture}".encode()).digest()
    return SPLITS[int.from_bytes(digest[:8], "big") < val_share * 2**64]


def by_split(
    pictures: Iterable[LabelledPicture], val_share: float, seed: int = 0
) -> dict[str, list[LabelledPicture]]:
    """Pictures of both splits, in their order."""
    splits: dict[str, list[LabelledPicture]] = {name: [] for name in SPLITS}
    for picture in pictures:
        splits[split_of(picture.sha256, val_share, seed)].append(picture)
    return splits


def read_picture_facts(path: Path) -> tuple[str, int]:
    """Checksum and orientation; makes sure that the file is a whole picture.

    Raises:
        ValueError: It is not.
    """
    read_header(path)
    return sha256_of(path, "picture"), orientation_of(path)
