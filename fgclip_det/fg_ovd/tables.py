"""FG-OVD's results as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_SCORES = {
    "mAP": "map",
    "AP50": "map_50",
    "AP75": "map_75",
    "AP small": "map_small",
    "AP medium": "map_medium",
    "AP large": "map_large",
    "AR100": "mar_100",
}
_RANKS = {"median rank": "median", "official median": "median_official", "mean rank": "mean"}


def result_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """One line for each result of `evaluate_fg_ovd`; precision and recall in percent.

    Coverage is the share of the vocabularies that were evaluated, with their numbers.

    Args:
        rows: By name of the line.
    """
    head = ["", "N", *_SCORES, *_RANKS, "no box", "coverage"]
    lines = [[name, *_numbers(result)] for name, result in rows.items()]
    return table(head, lines)


def sweep_table(results: Mapping[int, Mapping[str, Any]]) -> str:
    """One line for each number of negatives, from `sweep_fg_ovd`."""
    head = ["N", *_SCORES, *_RANKS, "no box", "coverage"]
    return table(head, [_numbers(result) for result in results.values()])


def attribute_table(breakdown: Mapping[str, Mapping[str, float]]) -> str:
    """One line for each attribute, from `attribute_breakdown`."""
    rows = [
        [name, str(one["n"]), *(_percent(one[key]) for key in ("accuracy", "mistaken", "chance"))]
        for name, one in breakdown.items()
    ]
    return table(["attribute", "boxes", "accuracy", "mistaken", "mistaken by chance"], rows)


def confusion_table(confusions: Sequence[Mapping[str, Any]]) -> str:
    """One line for each pair of words, from `confused_words`."""
    rows = [
        [f"{one['right']} -> {one['taken_for']}", one["attribute"]]
        + [str(one[key]) for key in ("times", "offered")]
        for one in confusions
    ]
    return table(["right -> taken for", "attribute", "times", "offered"], rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *escaped]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _numbers(result: Mapping[str, Any]) -> list[str]:
    ranks = result["ranks"] or {}
    coverage = result["coverage"]
    covered = f"{_percent(coverage['share'])} ({coverage['evaluated']}/{coverage['eligible']})"
    return [
        str(result["n_negatives"]),
        *(_percent(result[key]) for key in _SCORES.values()),
        *(_plain(ranks.get(key)) for key in _RANKS.values()),
        _percent(ranks.get("share_missed")),
        covered + ", strict" * bool(result["strict"]),
    ]


def _percent(share: float | None) -> str:
    return "-" if share is None or share < 0 else f"{100 * share:.2f}"


def _plain(number: float | None) -> str:
    return "-" if number is None else f"{number:.2f}".rstrip("0").rstrip(".")
