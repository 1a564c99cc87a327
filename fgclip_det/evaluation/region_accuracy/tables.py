"""Results of `region_accuracy` as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fgclip_det.fg_ovd.confusions import OTHER
from fgclip_det.fg_ovd.tables import attribute_table, confusion_table, table

_NUM_CONFUSED = 10
# What is counted, and the words for it.
_COUNTS = {
    "n": "boxes",
    "fewer": "of these with fewer negatives",
    "undefined": "of these without a feature, wrong",
    "skipped": "left out: too few negatives",
    "missing_boxes": "left out: picture missing",
    "long_captions": "captions cut",
}


def region_page(results: Mapping[str, Mapping[str, Any]], encoder: str, way: str) -> str:
    """One table of all files, then what is mistaken in each.

    Args:
        results: By name of the annotation file.
        encoder: Its name, for the row.
        way: How pictures went in; see `described`.
    """
    parts = [f"Right caption at the annotated box, percent. Pictures: {way}."]
    parts.append(accuracy_table(results, encoder))
    for name, result in results.items():
        if result["missing_images"]:
            parts.append(
                f"{name}: {result['missing_images']} pictures are missing; their "
                f"{result['missing_boxes']} boxes are left out."
            )
        if result["long_captions"]:
            parts.append(
                f"{name}: {result['long_captions']} of {result['captions']} captions are longer "
                f"than {result['max_tokens']} tokens and were cut."
            )
    for name, result in results.items():
        parts += [f"### {name}", attribute_table(result["attributes"])]
        if result["confused"]:
            parts.append(confusion_table(result["confused"][:_NUM_CONFUSED]))
        # Where the attributes are FG-OVD's, the table above says it better.
        if OTHER in result["attributes"] and result["pairwise"]:
            rows = [[words, _percent(share)] for words, share in result["pairwise"].items()]
            head = ["one word swapped within", "wrong captions that score no higher"]
            parts.append(table(head, rows))
    return "\n\n".join(parts)


def accuracy_table(results: Mapping[str, Mapping[str, Any]], encoder: str) -> str:
    """A column for each file; rows for the encoder, what it is compared with, and counts."""
    rows = {encoder: "accuracy"}
    if any(result["text_only"] is not None for result in results.values()):
        rows["text only"] = "text_only"
    rows["chance"] = "chance"
    lines = [
        [name, *(_percent(result[key]) for result in results.values())]
        for name, key in rows.items()
    ]
    lines += [
        [name, *(str(result[key]) for result in results.values())] for key, name in _COUNTS.items()
    ]
    return table(["", *results], lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"
