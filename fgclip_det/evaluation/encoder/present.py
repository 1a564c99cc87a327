"""A data set without the pictures that are not on the disk, and how much of it is left."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

from fgclip_det.evaluation.encoder.data_sets import BoxCaptions, Boxes, Record, Retrieval


def without_missing(record: Record) -> tuple[Record, list[str]]:
    """What is left of a record, and the paths of the pictures that are missing.

    Captions and boxes of missing pictures are left out with them.

    Raises:
        ValueError: No picture is there.
    """
    there = [os.path.isfile(path) for path in record.pictures]
    missing = [
        str(path) for path, is_there in zip(record.pictures, there, strict=True) if not is_there
    ]
    if not missing:
        return record, []
    if not any(there):
        raise ValueError(
            f"none of the {len(missing)} pictures is there, the first is looked for at "
            f"{missing[0]!r}: get the pictures, or say where they lie with --images"
        )
    places = _places(there)
    pictures = list(compress(record.pictures, there))
    if isinstance(record, Retrieval):
        kept = [there[owner] for owner in record.owners]
        return (
            replace(
                record,
                pictures=pictures,
                captions=list(compress(record.captions, kept)),
                owners=[places[owner] for owner in compress(record.owners, kept)],
                published_pictures=_kept(record.published_pictures, there),
                published_captions=_kept(record.published_captions, kept),
            ),
            missing,
        )
    if isinstance(record, Boxes | BoxCaptions):
        kept = [there[owner] for owner in record.owners]
        own: dict[str, Any] = {
            name: list(compress(getattr(record, name), kept))
            for name in ("labels", "annotation_ids", "captions", "subsets")
            if hasattr(record, name)
        }
        if isinstance(record, Boxes):
            own["published_pictures"] = _kept(record.published_pictures, there)
        own["owners"] = [places[owner] for owner in compress(record.owners, kept)]
        return replace(record, pictures=pictures, corners=record.corners[kept], **own), missing
    return replace(record, pictures=pictures, labels=list(compress(record.labels, there))), missing


def _places(kept: Sequence[bool]) -> dict[int, int]:
    """New number of each old one that is kept."""
    old = [number for number, is_kept in enumerate(kept) if is_kept]
    return {number: place for place, number in enumerate(old)}


def _kept(numbers: Sequence[int] | None, kept: Sequence[bool]) -> list[int] | None:
    if numbers is None:
        return None
    places = _places(kept)
    return [places[number] for number in numbers if kept[number]]
