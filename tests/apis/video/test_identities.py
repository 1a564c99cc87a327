"""The bundled detector on moving Shapes: objects are found, and keep their ids."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.video import RATE, SCENES, identity_shares
from fgclip_det.apis import OpenVocabInferencer, detect_video
from fgclip_det.apis.video.writer import written_video
from fgclip_det.datasets.shapes.motion import render_frames

# Enough for the objects to meet and part again.
FRAMES = 45


@pytest.mark.parametrize("scene", ["apart", "crossing"])
def test_objects_keep_their_ids(scene: str, tmp_path: Path) -> None:
    shapes, truth = SCENES[scene], []
    with written_video(tmp_path / "a.mp4", RATE) as writer:
        for index, (rgb, boxes) in enumerate(render_frames(1, shapes, FRAMES)):
            writer.write(rgb, index / RATE)
            truth.append(boxes)
    words = ". ".join(f"a {shape.composition.name}" for shape in shapes)
    result = detect_video(
        OpenVocabInferencer(device="cpu"), tmp_path / "a.mp4", words, out_dir=tmp_path / "out"
    )
    lines = [json.loads(line) for line in result.lines.read_text("utf-8").splitlines()]
    found, kept, ids = identity_shares(truth, lines)
    assert found >= 0.85
    assert kept >= 0.95
    assert ids == result.objects == len(shapes)


def _line(*rows: tuple[list[float], int | None]) -> dict:
    return {"detections": [{"box": box, "id": own} for box, own in rows]}


def test_the_share_is_of_boxes_with_their_own_id() -> None:
    one, two = [0.0, 0.0, 10.0, 10.0], [50.0, 0.0, 60.0, 10.0]
    truth = [np.array([one, two])] * 4
    same = [_line((one, 1), (two, 2))] * 4
    assert identity_shares(truth, same) == (1, 1, 2)
    # The ids change places in one frame of four; one box is missing in another.
    changed = [*same[:2], _line((one, 2), (two, 1)), _line((two, 2))]
    assert identity_shares(truth, changed) == pytest.approx((7 / 8, 5 / 7, 2))
    # Without an id in the first frame.
    assert identity_shares(truth, [_line((one, None), (two, None)), *same[1:]])[1] == 6 / 8
    # One id for two objects is the own of one of them alone.
    assert identity_shares(truth, [_line((one, 1), (two, 1))] * 4) == (1, 0.5, 1)
    # A box counts for one object, though two are there.
    assert identity_shares([np.array([one, one])] * 4, [_line((one, 1))] * 4) == (0.5, 1, 1)
    assert identity_shares(truth, [_line()] * 4) == (0, 0, 0)
