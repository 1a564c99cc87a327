"""Tables that `OVCocoMetric` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from terminaltables import AsciiTable


def group_table(
    metrics: Mapping[str, float],
    values: Mapping[str, np.ndarray],
    groups: Mapping[str, Sequence[str]],
) -> str:
    """One row for each group of classes, one column for each kind of number.

    Args:
        metrics: Numbers in percent by key, ``AP50_base`` or ``proposal_recall_base@100``.
        values: AP50 and AP of each class, below 0 for a class without ground truth.
        groups: Names of the classes of each group.
    """
    marker = "_" + next(iter(groups))
    kinds = [key.split(marker) for key in metrics if marker in key]
    rows = [["classes", "with ground truth", *("".join(kind) for kind in kinds)]]
    for group, names in groups.items():
        seen = sum(values[name][0] >= 0 for name in names)
        numbers = [f"{metrics[f'{head}_{group}{tail}']:.2f}" for head, tail in kinds]
        rows.append([f"{group} ({len(names)})", str(seen), *numbers])
    return AsciiTable(rows).table


def class_table(values: Mapping[str, np.ndarray], groups: Mapping[str, Sequence[str]]) -> str:
    """One row for each class: its group, AP50 and AP in percent, "-" without ground truth.

    Args:
        values: AP50 and AP of each class, in 0..1, below 0 for a class without ground truth.
        groups: Names of the classes of each group.
    """
    group_of = {name: group for group, names in groups.items() if group != "all" for name in names}
    rows = [["class", "group", "AP50", "AP"]]
    for name, numbers in values.items():
        shown = ["-" if number < 0 else f"{100 * number:.2f}" for number in numbers]
        rows.append([name, group_of.get(name, "-"), *shown])
    return AsciiTable(rows).table
