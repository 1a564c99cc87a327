"""What every format is written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fgclip_det.apis.labelling.labels import LabelledPicture


@dataclass(frozen=True)
class LabelSplits:
    """Labelled pictures, by split.

    Attributes:
        folder: That the pictures' paths begin at.
        names: What was asked for, in order.
        pictures: By split, in the order of their paths.
    """

    folder: Path
    names: Sequence[str]
    pictures: Mapping[str, Sequence[LabelledPicture]]
