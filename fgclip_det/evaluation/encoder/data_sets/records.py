"""What a stock data set holds, whatever its files look like.

``published`` fields hold the numbers of what the authors' script takes, rising; None is all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Retrieval:
    """P pictures and T captions.

    Attributes:
        pictures: P files, each once.
        captions: T texts; several may be equal.
        owners: Number of the picture of each caption.
        published_pictures: Of the authors' population.
        published_captions: Likewise; their pictures are among `published_pictures`.
    """

    pictures: Sequence[Path]
    captions: Sequence[str]
    owners: Sequence[int]
    published_pictures: Sequence[int] | None = None
    published_captions: Sequence[int] | None = None


@dataclass(frozen=True)
class Classification:
    """P pictures of C classes.

    Attributes:
        pictures: P files.
        labels: Class of each, from 0 to C - 1.
        names: C names, which prompts are made of.
        more_names: Where the data set is a small copy: names of all classes, which begin with
            `names`; else None.
    """

    pictures: Sequence[Path]
    labels: Sequence[int]
    names: Sequence[str]
    more_names: Sequence[str] | None = None


@dataclass(frozen=True)
class Boxes:
    """K boxes of C classes in P pictures.

    Attributes:
        pictures: P files; some may have no box.
        owners: Number of the picture of each box.
        corners: (K, 4) float64, xyxy, in pixels of the pictures as stored.
        labels: Class of each box, from 0 to C - 1.
        names: C names, which prompts are made of.
        annotation_ids: Of each box in its file.
        published_pictures: Of the authors' population, which has all of their boxes.
    """

    pictures: Sequence[Path]
    owners: Sequence[int]
    corners: np.ndarray
    labels: Sequence[int]
    names: Sequence[str]
    annotation_ids: Sequence[int]
    published_pictures: Sequence[int] | None = None


@dataclass(frozen=True)
class BoxCaptions:
    """K boxes in P pictures, each with captions of its own, the right one first.

    Attributes:
        pictures: P files.
        owners: Number of the picture of each box.
        corners: (K, 4) float64, xyxy, in pixels of the pictures as stored.
        captions: Of each box, the right one first; none, one or several others.
        subsets: Name of the file's subset of each box, such as "hard".
    """

    pictures: Sequence[Path]
    owners: Sequence[int]
    corners: np.ndarray
    captions: Sequence[Sequence[str]]
    subsets: Sequence[str]


Record = Retrieval | Classification | Boxes | BoxCaptions
