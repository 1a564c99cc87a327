"""Benchmark results as Markdown, JSON and a bar chart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

try:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
except ImportError:
    Figure = None

COLOURS = ("#1f6f8b", "#e08e45", "#7a5195", "#6b8e23")


def check_chart_is_possible() -> None:
    """Looks for matplotlib before hours of measuring, not after.

    Raises:
        ValueError: It is not installed.
    """
    if Figure is None:
        raise ValueError("--plot needs matplotlib; pip install matplotlib, or leave --plot out")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def settings_list(settings: Mapping[str, Any]) -> str:
    """The settings as a Markdown list, without those that do not apply."""
    lines = [f"- {name}: {value}" for name, value in settings.items() if value is not None]
    return "\n".join(lines)


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f}"


def write_json(path: Path, result: Mapping[str, Any]) -> None:
    """Writes a result so that a reader sees the whole file or none."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(path)


def bar_chart(
    path: Path,
    *,
    title: str,
    axis: str,
    bars: Mapping[str, Mapping[str, tuple[float, float, float]]],
) -> None:
    """Draws horizontal bars on a logarithmic axis, with a line at 1.

    Args:
        path: PNG to write.
        title: Over the chart.
        axis: What the bars' length is.
        bars: By label, by series: (value, low, high); the last two are drawn as a whisker.
    """
    series = list(dict.fromkeys(name for values in bars.values() for name in values))
    thickness = 0.8 / max(1, len(series))
    figure = Figure(figsize=(9, 1.2 + 0.55 * len(bars)), layout="constrained")
    axes = figure.add_subplot()
    for index, name in enumerate(series):
        for row, values in enumerate(bars.values()):
            if name not in values:
                continue
            value, low, high = values[name]
            place = row - 0.4 + thickness * (index + 0.5)
            axes.barh(
                place,
                value - 1,
                left=1,
                height=thickness * 0.92,
                color=COLOURS[index % len(COLOURS)],
                label=name if name not in axes.get_legend_handles_labels()[1] else None,
            )
            if low < high:
                axes.plot([low, high], [place, place], color="black", linewidth=1)
            text = f" {number(value)}x"
            axes.text(max(1, value, high), place, text, va="center", ha="left", fontsize=8)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(bars)), list(bars))
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(axis)
    axes.set_title(title, loc="left", fontsize=11, pad=24)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=len(series), loc="lower left", bbox_to_anchor=(-0.02, 0.985))
    figure.savefig(path, dpi=150)
