"""One check of an annotation file and all its pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fgclip_det.datasets.check.annotated_data import AnnotatedData, read_data
from fgclip_det.datasets.check.findings import (
    Finding,
    box_findings,
    name_findings,
    size_findings,
)
from fgclip_det.datasets.check.picture_headers import SeenPicture, look_at
from fgclip_det.datasets.check.remembered import Memory, recall, remember, state_of

_NUM_NAMED = 3
_HOW_TO_TRUST = "(tools/train.py --no-data-check trains with it)"


@dataclass(frozen=True)
class DataSource:
    """Annotations, and where their pictures are.

    Attributes:
        ann_file: COCO-style JSON, or lines of `RegionCaptionDataset` (``.jsonl``).
        image_root: Folder that names of pictures are relative to.
        needs_empty: Whether pictures without a box are read; else broken ones are merely odd.
        skip_missing: Whether pictures that are not there are left out.
        turned: Whether pictures are turned by their EXIF entry when they are read.
    """

    ann_file: str
    image_root: str
    needs_empty: bool = True
    skip_missing: bool = False
    turned: bool = False


def check_source(source: DataSource) -> list[str]:
    """Look at every entry of an annotation file, and at the header of every picture.

    Damage in the middle of a picture is not seen, and of other formats than JPEG and PNG neither is
    a missing end. What was found is remembered in a file beside the annotation file, with size and
    times of each picture, where that folder can be written: then only what changed is read again.

    Returns:
        The oddities that a training can do with, in words.

    Raises:
        ValueError: The data cannot be what they claim to be; tells all that is wrong, and the mend.
    """
    path, root = Path(source.ann_file), source.image_root
    settings: list[object] = [
        os.path.abspath(root),
        source.needs_empty,
        source.skip_missing,
        source.turned,
    ]
    settings.append(state_of(path))
    seen, known = recall(path, settings)
    if known is not None:
        looked = look_at(root, list(seen), seen)
        if looked == seen:
            return list(known)
        seen = _whole(looked)
    try:
        data = read_data(path)
    except ValueError as error:
        if not path.is_file():
            raise
        # Data sets of MMDetection's take more than this package reads.
        raise ValueError(
            f"{error} (tools/train.py --no-data-check leaves it to the data set)"
        ) from None
    looked = look_at(root, list(dict.fromkeys(data.names)), seen)
    findings = [*_picture_findings(data, looked, source), *_findings(data, looked, source.turned)]
    wrong = [one.text for one in findings if one.is_wrong]
    odd = [one.text for one in findings if not one.is_wrong]
    pictures = _whole(looked)
    # A picture that is not remembered could change unnoticed.
    is_whole = not wrong and len(pictures) == len(looked)
    remember(path, settings, Memory(pictures, odd if is_whole else None))
    if wrong:
        raise ValueError(f"{str(path)!r}: {'; '.join(wrong)} {_HOW_TO_TRUST}")
    return odd


def _whole(looked: Mapping[str, SeenPicture | str]) -> dict[str, SeenPicture]:
    return {name: one for name, one in looked.items() if isinstance(one, SeenPicture)}


def _findings(
    data: AnnotatedData, looked: Mapping[str, SeenPicture | str], turned: bool
) -> list[Finding]:
    seen = [looked[name] for name in data.names]
    unknown = (np.nan, np.nan)
    stored = [(one.width, one.height) if isinstance(one, SeenPicture) else unknown for one in seen]
    sideways = np.array([isinstance(one, SeenPicture) and one.sideways for one in seen], bool)
    sizes = np.array(stored, dtype=np.float64).reshape(-1, 2)
    if turned:
        sizes = np.where(sideways[:, None], sizes[:, ::-1], sizes)
    own = np.where(np.isnan(data.sizes), sizes, data.sizes)
    return [
        *size_findings(data, sizes, sideways, turned),
        *box_findings(data, own),
        *name_findings(data),
    ]


def _picture_findings(
    data: AnnotatedData, looked: Mapping[str, SeenPicture | str], source: DataSource
) -> list[Finding]:
    with_boxes = {data.names[place] for place in np.unique(data.image).tolist()}
    needed, unneeded = [], []
    for name, problem in looked.items():
        if isinstance(problem, str):
            left_out = source.skip_missing and problem.endswith("is missing")
            left_out |= not source.needs_empty and name not in with_boxes
            (unneeded if left_out else needed).append(problem)
    found = []
    for problems, is_wrong in ((needed, True), (unneeded, False)):
        if problems:
            first = "; ".join(problems[:_NUM_NAMED])
            mend = ": check the folder of the pictures, and copy them again" if is_wrong else ""
            which = "pictures" if is_wrong else "pictures that are left out anyway"
            text = f"{len(problems)} of {len(looked)} {which} cannot be read, the first: {first}"
            found.append(Finding(text + mend, is_wrong))
    return found
