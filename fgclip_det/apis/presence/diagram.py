"""The reliability diagram: what came true, over how sure the detector was."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fgclip_det.apis.argument_checks import check_path
from fgclip_det.io import check_writable, write_bytes


def check_diagram(path: str | os.PathLike) -> None:
    """Say what is wrong with the path of a diagram before anything is computed.

    Raises:
        ValueError: It is no ``.png`` file in a folder that is there.
        OSError: The folder cannot be written to.
    """
    check_path(path, "a diagram")
    if Path(path).suffix.lower() != ".png" or not Path(path).parent.is_dir() or Path(path).is_dir():
        raise ValueError(f"{str(path)!r} must be a .png file in a folder that is there")
    check_writable(Path(path).parent)


def write_diagram(summary: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Draw the calibration of a summary, one panel for each kind of cases.

    Args:
        summary: Of `evaluate_presence`, of values in [0, 1].
        path: The ``.png`` file.

    Raises:
        ValueError: The values have no calibration, or it is no path of such a file.
    """
    # A second, which nobody who draws nothing should wait.
    from matplotlib.figure import Figure

    check_diagram(path)
    panels = {what: own for what, own in summary["calibration"].items() if own["bins"]}
    if not panels:
        raise ValueError(f"values of the kind {summary['value']!r} are no probabilities to draw")
    figure = Figure(figsize=(4.6 * len(panels), 4.6), layout="constrained")
    for place, (what, own) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), place)
        _panel(axes, what, own, summary["value"])
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120, metadata={"Software": None})
    write_bytes(path, stream.getvalue())


def _panel(axes: Any, what: str, own: Mapping[str, Any], value: str) -> None:
    confidences = [one["confidence"] for one in own["bins"]]
    right = [one["right"] for one in own["bins"]]
    reach = [
        [one["right"] - one["interval"][0] for one in own["bins"]],
        [one["interval"][1] - one["right"] for one in own["bins"]],
    ]
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    axes.errorbar(
        confidences, right, reach, marker="o", markersize=4, linewidth=1, capsize=2, color="C0"
    )
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1),
        aspect="equal",
        xlabel=f"mean {value} of a bin",
        ylabel="share that is right",
        title=f"{what}: ECE {own['error']:.3f}",
    )
