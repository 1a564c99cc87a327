"""MSCOCO as the authors read it: val2017 in the order of torchvision's CocoCaptions."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from fgclip_det.evaluation.encoder.data_sets.records import Retrieval
from fgclip_det.evaluation.encoder.data_sets.stock_files import (
    by_id,
    check_known,
    check_once,
    entries_of,
    picture_paths,
    stock_path,
)
from fgclip_det.io import read_json

_FILE = "COCO's annotations/captions_val2017.json"
# Captions of a picture that the authors take.
_PUBLISHED = 5


def read_coco_captions(root: Path, images: Path | None = None) -> Retrieval:
    """Pictures by ascending id, captions of each in the order of the file.

    Args:
        root: Holds ``annotations/captions_val2017.json`` and ``val2017/``.
        images: Folder of the pictures, if elsewhere.

    Raises:
        ValueError: A file is missing or broken; it is named.
    """
    path = stock_path(root, "annotations/captions_val2017.json", "captions_val2017.json")
    values = read_json(path, max_bytes=None)
    entries = entries_of(values, path, "images", {"id": int, "file_name": str}, _FILE)
    listed = by_id(entries, path, "image")
    fields = {"image_id": int, "caption": str}
    own: dict[int, list[str]] = defaultdict(list)
    for number, entry in enumerate(entries_of(values, path, "annotations", fields, _FILE)):
        where = f"{str(path)!r}: the image_id of annotation number {number}"
        check_known(entry["image_id"], listed, where)
        own[entry["image_id"]].append(entry["caption"])
    ids = sorted(listed)
    names = [listed[one]["file_name"] for one in ids]
    check_once(names, path, "file_name")
    return grouped(picture_paths(images, names, root / "val2017"), [own[one] for one in ids], path)


def grouped(
    pictures: list[Path],
    captions: list[list[str]],
    source: Path,
    published: int | None = _PUBLISHED,
) -> Retrieval:
    """Pictures with several captions each, of which the authors take the first `published`.

    Raises:
        ValueError: A picture has no caption.
    """
    texts, owners, taken = [], [], []
    for number, own in enumerate(captions):
        if not own:
            raise ValueError(
                f"{str(source)!r} has no caption of {pictures[number].name!r}: get it again, or "
                "take the picture out"
            )
        first = len(texts)
        taken += range(first, first + len(own[:published]))
        texts += own
        owners += [number] * len(own)
    return Retrieval(pictures, texts, owners, None, None if len(taken) == len(texts) else taken)
