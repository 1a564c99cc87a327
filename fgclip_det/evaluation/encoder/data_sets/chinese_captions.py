"""Chinese data sets of five captions a picture: Flickr30k-CNA and COCO-CN."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from fgclip_det.evaluation.encoder.data_sets.coco_captions import grouped
from fgclip_det.evaluation.encoder.data_sets.paired_captions import caption_lines, text_lines
from fgclip_det.evaluation.encoder.data_sets.records import Retrieval
from fgclip_det.evaluation.encoder.data_sets.stock_files import picture_paths, stock_path
from fgclip_det.io import quoted

_CAPTIONS = 5
_PAIR = re.compile(r"(COCO_(train|val)2014_\d{12})#zhm#\d+ (.*)")


def read_flickr30k_cna(root: Path, images: Path | None = None) -> Retrieval:
    """Lines of ``<id>#k<TAB>caption``, whose picture is ``<id>.jpg``.

    Args:
        root: Holds ``flickr30k_cna_test.txt`` and ``flickr30k-images/``.
        images: Folder of the pictures, if elsewhere.

    Raises:
        ValueError: The file is missing, or a line is none of these.
    """
    path = stock_path(root, "flickr30k_cna_test.txt")
    own: dict[str, list[str]] = defaultdict(list)
    for key, text in caption_lines(path):
        stem, mark, _ = key.partition("#")
        if not mark or not stem:
            raise ValueError(f"{str(path)!r} has the key {quoted(key)}: <id>#<number> is needed")
        own[f"{stem}.jpg"].append(text)
    for name, texts in own.items():
        if len(texts) != _CAPTIONS:
            raise ValueError(
                f"{str(path)!r} has {len(texts)} captions of {name!r}, not {_CAPTIONS}: truncated? "
                "Get it again"
            )
    pictures = picture_paths(images, list(own), root / "flickr30k-images", root)
    return grouped(pictures, list(own.values()), path)


def read_coco_cn(root: Path, images: Path | None = None) -> Retrieval:
    """FG-CLIP 2's ``pair.txt``; pictures by their first line, other lines are passed over.

    Args:
        root: Holds ``pair.txt``, and ``train2014/`` and ``val2014/``, there or in ``coco/``.
        images: Folder that holds those two, or all pictures, if elsewhere.

    Raises:
        ValueError: The file is missing, or no line of it is one of a pair.
    """
    path = stock_path(root, "pair.txt")
    own: dict[str, list[str]] = defaultdict(list)
    for _, line in text_lines(path):
        found = _PAIR.fullmatch(line)
        if found:
            own[f"{found[2]}2014/{found[1]}.jpg"].append(found[3])
    if not own:
        raise ValueError(
            f"{str(path)!r} has no line such as 'COCO_val2014_000000000042#zhm#0 caption': take "
            "FG-CLIP 2's fgclip2/eval/pair.txt"
        )
    return grouped(picture_paths(images, list(own), root / "coco", root), list(own.values()), path)
