"""Flickr30K's 1K test set in the layout of BLIP and ALBEF, which FG-CLIP 2's script reads."""

from __future__ import annotations

from pathlib import Path

from fgclip_det.evaluation.encoder.data_sets.coco_captions import grouped
from fgclip_det.evaluation.encoder.data_sets.records import Retrieval
from fgclip_det.evaluation.encoder.data_sets.stock_files import (
    check_once,
    picture_paths,
    read_entries,
    stock_path,
)
from fgclip_det.io import quoted


def read_flickr30k(root: Path, images: Path | None = None) -> Retrieval:
    """Pictures and captions in the order of the file.

    Args:
        root: Holds ``flickr30k_test.json`` and ``flickr30k-images/``.
        images: Folder of the pictures, if elsewhere.

    Raises:
        ValueError: The file is missing or broken; what is wrong is named.
    """
    path = stock_path(root, "flickr30k_test.json")
    fields = {"image": str, "caption": list}
    entries = read_entries(path, None, fields, "BLIP's flickr30k_test.json")
    for entry in entries:
        if not all(isinstance(text, str) for text in entry["caption"]):
            raise ValueError(
                f"{str(path)!r}: a caption of {quoted(entry['image'])} is no text: get it again"
            )
    names = [entry["image"] for entry in entries]
    check_once(names, path, "image")
    paths = picture_paths(images, names, root, root / "flickr30k-images")
    return grouped(paths, [entry["caption"] for entry in entries], path, published=None)
