"""What the papers print for each encoder, in percent.

All of FG-CLIP 2 (arXiv 2510.10921) in the text of ICML: tables 1 (FG-OVD), 2 (boxes), 4 (English
retrieval and ImageNet) and 5 (Chinese retrieval). The images of its project page, numbered as on
arXiv, have other values of SigLIP 2-B: 68.9/52.9 on COCO, 92.6/80.0 on Flickr30K, 79.4 and 72.7 on
ImageNet and ImageNet-v2.
"""

from __future__ import annotations

SOURCE = "FG-CLIP 2, ICML text"
# Family, and width of the image tower, by which the sizes of a family are told apart.
_ENCODERS = {
    ("fgclip", 768): "FG-CLIP-B",
    ("fgclip", 1024): "FG-CLIP-L",
    ("fgclip2", 768): "FG-CLIP 2-B",
    ("fgclip2", 1024): "FG-CLIP 2-L",
    ("fgclip2", 1152): "FG-CLIP 2-So",
    ("clip", 768): "CLIP-B",
    ("clip", 1024): "CLIP-L",
    ("siglip2", 768): "SigLIP 2-B",
    ("siglip2", 1024): "SigLIP 2-L",
}
_BOTH = ("i2t_r1", "t2i_r1")
_SUBSETS = ("hard_top1", "medium_top1", "easy_top1", "trivial_top1")
_TOP1 = ("top1",)
# Metrics and, in the order of `_ENCODERS`, their values; those of the first few alone at the end.
_TABLE: dict[str, tuple[tuple[str, ...], str]] = {
    "coco-retrieval": (
        _BOTH,
        "64.1/45.4 68.9/50.9 72.1/54.5 75.1/58.6 74.6/56.7 51.8/32.7 58.0/37.1 71.2/55.2 72.1/55.2",
    ),
    "flickr30k": (
        _BOTH,
        "90.7/76.4 93.7/81.5 94.1/81.9 96.6/84.8 95.9/85.0 82.2/62.1 87.4/67.3 92.6/78.0 94.3/82.6",
    ),
    "sharegpt4v-1k": (
        _BOTH,
        "96.7/94.9 97.4/96.8 95.8/95.4 96.9/96.6 97.5/96.7 78.2/79.6 86.5/83.6 66.0/67.9 85.1/84.6",
    ),
    "dci": (
        _BOTH,
        "61.8/60.6 66.7/66.1 64.5/64.9 70.0/71.6 70.6/72.1 45.5/43.0 37.2/36.4 32.3/34.2 48.0/49.3",
    ),
    "lit-cn": (_BOTH, "- - 82.4/81.1 86.3/85.9 87.6/86.3"),
    "flickr30k-cna": (_BOTH, "- - 85.4/69.9 90.3/75.0 91.5/77.2"),
    "coco-cn": (_BOTH, "- - 77.2/62.9 82.8/66.5 83.2/68.1"),
    "imagenet": (_TOP1, "69.0 76.1 79.5 83.0 84.1 68.4 76.6 81.2 83.1"),
    "imagenet-v2": (_TOP1, "61.8 69.0 72.2 77.4 77.8 61.9 70.9 74.5 76.5"),
    "coco-boxes": (("top1", "top5"), "52.3 63.2 74.9/95.7 74.0 77.4"),
    "lvis-boxes": (_TOP1, "28.6 38.3 47.3 41.9 43.9"),
    "boxclass-cn": (_TOP1, "- - 60.7 68.6 66.5"),
    "fg-ovd": (
        _SUBSETS,
        "46.1/66.6/68.7/83.4 48.4/69.5/71.2/89.7 52.3/76.3/80.3/92.0 55.5/77.5/83.1/92.5 "
        "54.0/77.4/79.8/93.5",
    ),
}
# Of the authors' population, where the whole data set is there.
_SIZES = {
    "coco-retrieval": {"pictures": 5000, "captions": 25_000},
    "flickr30k": {"pictures": 1000, "captions": 5000},
    "sharegpt4v-1k": {"pictures": 1000},
    "dci": {"pictures": 7805},
    "urban-1k": {"pictures": 1000},
    "lit-cn": {"pictures": 33_010},
    "flickr30k-cna": {"pictures": 1000, "captions": 5000},
    "coco-cn": {"pictures": 1000, "captions": 5000},
    "imagenet-v2": {"pictures": 10_000},
    "boxclass-cn": {"boxes": 66_258},
    "fg-ovd": {"hard": 3545, "medium": 2968, "easy": 1299, "trivial": 3545},
}


def published_row(protocol: str, family: str, width: int) -> tuple[str, dict[str, float]]:
    """Name and percentages of the published encoder of a family and a size.

    Args:
        protocol: Name of a protocol.
        family: "fgclip", "fgclip2", "clip" or "siglip2".
        width: Of the image tower.

    Returns:
        The name and the value of each metric; ("", {}) where nothing is published.
    """
    metrics, cells = _TABLE.get(protocol, ((), ""))
    row = dict(zip(_ENCODERS, cells.split(), strict=False)).get((family, width), "-")
    if row == "-":
        return "", {}
    values = [float(number) for number in row.split("/")]
    return _ENCODERS[family, width], dict(zip(metrics, values, strict=False))


def published_sizes(protocol: str) -> dict[str, int]:
    """What the authors' population of the whole data set holds, where that is known."""
    return _SIZES.get(protocol, {})
