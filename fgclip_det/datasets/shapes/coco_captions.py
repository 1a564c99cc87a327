"""Short captions of Shapes in the file that COCO has for its own: retrieval asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fgclip_det.datasets.prepare.prepared_files import PreparedFile


def captions_file(
    images: Sequence[dict[str, Any]], records: Sequence[dict[str, Any]]
) -> PreparedFile:
    """The captions of a split, one of each picture.

    Args:
        images: Of the COCO file of the split.
        records: Lines of its captions, in the same order.

    Returns:
        ``captions_val2017.json``, which the protocol "coco-retrieval" reads.
    """
    annotations = [
        {"id": image["id"], "image_id": image["id"], "caption": record["short_caption"]}
        for image, record in zip(images, records, strict=True)
    ]
    return PreparedFile(
        "captions_val2017.json",
        lists={"images": list(images), "annotations": annotations},
        summary=f"{len(annotations)} short captions",
    )
