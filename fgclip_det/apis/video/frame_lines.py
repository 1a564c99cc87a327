"""What was found in a frame, as a line of JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fgclip_det.apis.detections import Detections, rounded
from fgclip_det.apis.video.source import VideoFrame
from fgclip_det.apis.video.tracking import UNKNOWN, ObjectTracker
from fgclip_det.io import open_regular, parse_json


def to_line(frame: VideoFrame, found: Detections, tracker: ObjectTracker | None) -> dict[str, Any]:
    """The line of a frame.

    Args:
        frame: The frame, later than all that `tracker` knows.
        found: What was found in it.
        tracker: Tells objects apart, by what is in the line, so that lines that were read again
            give the same ids; None for none.

    Returns:
        ``frame``, ``time_s``, ``width``, ``height``, and ``detections`` with ``name``, ``score``,
        ``confidence`` (None where there is none), ``box`` (xyxy, in pixels of the frame) and, with
        a tracker, ``id``: None where an object is seen for the first time.
    """
    rows = rounded(found.to_dict())["detections"]
    line = {
        "frame": frame.index,
        "time_s": frame.time_s,
        "width": found.width,
        "height": found.height,
        "detections": rows,
    }
    if tracker is not None:
        for row, own in zip(rows, _tracked(line, tracker), strict=True):
            row["id"] = None if own == UNKNOWN else own
    return line


def replay(line: Mapping[str, Any], tracker: ObjectTracker | None) -> None:
    """Tell a tracker of a frame that was looked into before."""
    if tracker is not None:
        _tracked(line, tracker)


def to_detections(
    line: Mapping[str, Any], vocabulary: Sequence[str], path: str, conf_thr: float | None = None
) -> Detections:
    """What a line tells.

    Args:
        line: See `to_line`.
        vocabulary: All names that were asked for.
        path: The video's file.
        conf_thr: The least confidence; None where there are none.
    """
    rows = line["detections"]
    places = {name: place for place, name in reversed(list(enumerate(vocabulary)))}
    confidences, ids = None, None
    if conf_thr is not None:
        confidences = torch.tensor([row["confidence"] for row in rows], dtype=torch.float32)
    if all("id" in row for row in rows):
        ids = torch.tensor([UNKNOWN if row["id"] is None else row["id"] for row in rows]).long()
    return Detections(
        names=[row["name"] for row in rows],
        boxes=torch.tensor([row["box"] for row in rows], dtype=torch.float32).view(-1, 4),
        scores=torch.tensor([row["score"] for row in rows], dtype=torch.float32),
        labels=torch.tensor([places[row["name"]] for row in rows]).long(),
        vocabulary=list(vocabulary),
        width=line["width"],
        height=line["height"],
        image_path=path,
        ids=ids,
        confidences=confidences,
        conf_thr=conf_thr,
    )


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file, one in memory at a time.

    Raises:
        ValueError: It cannot be read, or a line is broken; names it.
    """
    with open_regular(path, "results") as stream:
        for number, line in enumerate(stream, 1):
            yield parse_json(line, f"line {number} of {str(path)!r}")


def _tracked(line: Mapping[str, Any], tracker: ObjectTracker) -> list[int]:
    rows = line["detections"]
    boxes = [row["box"] for row in rows]
    scores = [row["score"] if row["confidence"] is None else row["confidence"] for row in rows]
    return tracker.ids(boxes, scores, line["time_s"]).tolist()
