"""All that is told of a detector that was asked what is there and what is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fgclip_det.evaluation.presence.alarms import (
    area_with_interval,
    share_interval,
    threshold_at_recall,
)
from fgclip_det.evaluation.presence.calibration_error import reliability
from fgclip_det.evaluation.presence.counts import Answer, box_iou, presence_counts
from fgclip_det.fg_ovd.tables import table

# Reported boxes below say nothing to anybody; and where a box is right.
REPORTED, RIGHT_IOU = 0.05, 0.5
_NOT_THERE = {"near_miss": "near misses", "absent": "absent"}
_COUNTS = ("cgF1", "cgF1@50", "cgF1@75", "IL_MCC", "positive_micro_F1", "positive_macro_F1")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one query.

    Attributes:
        picture: Which picture it was asked of.
        kind: "present", "near_miss" or "absent".
        value: Of the best region.
        right: Whether that region is what was asked for: IoU 0.5 with a true box.
        answer: The boxes that would be reported.
        differs: The attribute that a near miss differs in, where it is known.
    """

    picture: int
    kind: str
    value: float
    right: bool
    answer: Answer
    differs: str | None = None


def summarize(
    outcomes: Sequence[Outcome], threshold: float, bins: int = 15, is_share: bool = True
) -> dict[str, Any]:
    """Alarms, areas, calibration error and counts.

    Args:
        outcomes: Of all queries. A kind that was not asked has no figures.
        threshold: What is reported has this value at least; `tuned_threshold` of other pictures.
        bins: Of the calibration error.
        is_share: Whether values are in [0, 1]; of others there is no calibration error, and boxes
            count from `threshold` on alone.

    Returns:
        Plain values: ``threshold``; ``pictures``; ``queries`` by kind; ``recall`` and ``in_place``
        (reported, and its best region right); for each kind that is not there ``alarms`` and
        ``AUC``, and of near misses ``by_attribute``; ``alarms_per_picture``; ``calibration`` of the
        best region of each query and of all boxes from 0.05 on; ``counts`` from the threshold, and
        from SA-Co's 0.5 on. Shares have ``count``, ``of``, ``share`` and the ``interval`` of 95 %.

    Raises:
        ValueError: There are no queries of what is there.
    """
    kinds = {
        kind: [one for one in outcomes if one.kind == kind] for kind in ("present", *_NOT_THERE)
    }
    present = kinds["present"]
    if not present:
        raise ValueError("no query is of what is there: a recall needs some")
    pictures = len({one.picture for one in outcomes})
    result: dict[str, Any] = {
        "threshold": threshold,
        "pictures": pictures,
        "queries": {kind: len(own) for kind, own in kinds.items()},
        "recall": _share(one.value >= threshold for one in present),
        "in_place": _share(one.value >= threshold and one.right for one in present),
    }
    for kind in _NOT_THERE:
        if kinds[kind]:
            result[kind] = _not_there(present, kinds[kind], threshold)
    alarms = sum(result[kind]["alarms"]["count"] for kind in _NOT_THERE if kind in result)
    result["alarms_per_picture"] = alarms / pictures
    result["calibration"] = _calibration(outcomes, bins) if is_share else {}
    answers = [one.answer for one in outcomes]
    result["counts"] = {"threshold": presence_counts(answers, threshold)}
    if is_share:
        result["counts"]["0.5"] = presence_counts(answers, 0.5)
    return result


def tuned_threshold(outcomes: Iterable[Outcome], recall: float = 0.95) -> float:
    """The largest threshold that reports at least this share of what is there.

    Raises:
        ValueError: There is nothing, or `recall` is out of range.
    """
    return threshold_at_recall(
        np.array([one.value for one in outcomes if one.kind == "present"]), recall
    )


def right_boxes(answer: Answer) -> np.ndarray:
    """(F,) bool: which boxes are right; of several on one true box only the surest is."""
    overlaps = box_iou(answer.found, answer.truth)
    right = np.zeros(len(answer.found), dtype=bool)
    for place in np.argsort(-np.asarray(answer.values), kind="stable"):
        if overlaps.shape[1] and overlaps[place].max() >= RIGHT_IOU:
            right[place] = True
            overlaps[:, overlaps[place].argmax()] = 0
    return right


def presence_page(summary: Mapping[str, Any], title: str) -> str:
    """A summary as Markdown; shares in percent, with intervals of 95 %."""
    lines = [
        ["recall", _percent(summary["recall"])],
        ["recall, in the right place", _percent(summary["in_place"])],
    ]
    for kind, name in _NOT_THERE.items():
        if kind in summary:
            lines.append([f"alarms, {name}", _percent(summary[kind]["alarms"])])
            shares = summary[kind].get("by_attribute", {})
            lines += [[f"alarms, other {a}", _percent(share)] for a, share in shares.items()]
            area, low, high = summary[kind]["AUC"]
            lines.append([f"AUC, {name}", f"{area:.4f} ({low:.4f} to {high:.4f})"])
    lines.append(["false alarms a picture", f"{summary['alarms_per_picture']:.3f}"])
    for what, own in summary["calibration"].items():
        error = "-" if own["error"] is None else f"{own['error']:.4f}"
        lines.append([f"ECE, {what} ({own['cases']} cases)", error])
    for start, counts in summary["counts"].items():
        told = f"from {start} on" if start != "threshold" else "from the threshold on"
        lines += [[f"{name}, {told}", f"{100 * counts[name]:.2f}"] for name in _COUNTS]
    asked = ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in summary["queries"].items())
    head = (
        f"{summary['pictures']} pictures, queries: {asked}. Threshold {summary['threshold']:.4g}."
    )
    return "\n\n".join([title, head, table(["boxes, percent", ""], lines)])


def _not_there(
    present: Sequence[Outcome], others: Sequence[Outcome], threshold: float
) -> dict[str, Any]:
    values = [np.array([one.value for one in own]) for own in (present, others)]
    found: dict[str, Any] = {
        "alarms": _share(one.value >= threshold for one in others),
        "AUC": area_with_interval(*values),
    }
    attributes = sorted({one.differs for one in others if one.differs is not None})
    if attributes:
        found["by_attribute"] = {
            name: _share(one.value >= threshold for one in others if one.differs == name)
            for name in attributes
        }
    return found


def _calibration(outcomes: Sequence[Outcome], bins: int) -> dict[str, Any]:
    answers = [one.answer for one in outcomes]
    values = np.concatenate([np.asarray(one.values, dtype=np.float64) for one in answers])
    right = np.concatenate([right_boxes(one) for one in answers])
    from_here = values >= REPORTED
    best = [one.value for one in outcomes], [one.right for one in outcomes]
    cases = {
        "best region": best,
        f"boxes from {REPORTED} on": (values[from_here], right[from_here]),
    }
    made = {}
    for what, (confidences, outcome) in cases.items():
        empty = {"cases": 0, "error": None, "bins": []}
        made[what] = empty
        if len(confidences):
            found = reliability(np.array(confidences), np.array(outcome), bins)
            made[what] = {"cases": len(confidences), **asdict(found)}
    return made


def _share(outcomes: Iterable[bool]) -> dict[str, Any]:
    cases = [bool(one) for one in outcomes]
    count = sum(cases)
    return {
        "count": count,
        "of": len(cases),
        "share": count / len(cases),
        "interval": share_interval(count, len(cases)),
    }


def _percent(share: Mapping[str, Any]) -> str:
    low, high = (100 * end for end in share["interval"])
    return (
        f"{100 * share['share']:.2f} ({low:.2f} to {high:.2f}), {share['count']} of {share['of']}"
    )
