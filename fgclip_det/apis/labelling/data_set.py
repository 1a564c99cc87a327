"""All that a labelling run writes once its pictures are done."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from fgclip_det.apis.labelling.formats import write_labels
from fgclip_det.apis.labelling.formats.splits import LabelSplits
from fgclip_det.apis.labelling.labels import by_split
from fgclip_det.apis.labelling.review import write_review
from fgclip_det.apis.labelling.run import Labels
from fgclip_det.io import write_json

MANIFEST, VOCABULARY, REVIEW = "manifest.json", "vocabulary.json", "review"


def check_val_share(val_share: float) -> None:
    """Make sure that a share is one.

    Raises:
        ValueError: It is none.
    """
    if not 0 <= val_share < 1:
        raise ValueError(f"the share of val is {val_share}: give a number from 0, below 1")


def write_data_set(
    out: Path,
    folder: Path,
    labels: Labels,
    formats: Collection[str],
    val_share: float = 0.1,
    seed: int = 0,
    review: int = 100,
) -> None:
    """Write the formats, the manifest, the names and the page of the least certain labels.

    Args:
        out: A folder that is there.
        folder: That was labelled.
        labels: What was found in it.
        formats: Of `formats.FORMATS`.
        val_share: Share of pictures in "val"; see `labels.split_of`.
        seed: Of other splits.
        review: Labels on the page; 0 writes none.

    Raises:
        ValueError: A setting is out of range, or a name cannot be held by a format.
        OSError: Writing failed.
    """
    check_val_share(val_share)
    splits = by_split(labels.pictures, val_share, seed)
    names = labels.settings.names
    write_labels(out, formats, LabelSplits(folder, names, splits))
    write_json(out / VOCABULARY, {"names": {name: [name] for name in names}})
    write_json(out / MANIFEST, _manifest(folder, labels, val_share, seed))
    if review:
        write_review(out / REVIEW, folder, labels, review)


def _manifest(folder: Path, labels: Labels, val_share: float, seed: int) -> dict[str, Any]:
    settings = labels.settings
    split = {
        picture.file: name
        for name, pictures in by_split(labels.pictures, val_share, seed).items()
        for picture in pictures
    }
    return {
        "folder": str(folder.resolve()).encode("utf-8", "backslashreplace").decode(),
        "names": list(settings.names),
        "thresholds": dict(zip(settings.names, settings.thresholds, strict=True)),
        "iou_threshold": settings.iou_threshold,
        "val_share": val_share,
        "seed": seed,
        "pictures": [
            {
                "file": picture.file,
                "sha256": picture.sha256,
                "split": split[picture.file],
                "labels": len(picture.labels),
            }
            for picture in labels.pictures
        ],
        "failures": [text.encode("utf-8", "backslashreplace").decode() for text in labels.failures],
    }
