"""What is typed behind ``fgclip-det detect`` reaches the inferencer."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fgclip_det.apis import inferencer
from fgclip_det.apis.answers import Stream
from fgclip_det.apis.detections import Detections
from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.apis.scores.limits import Limits
from fgclip_det.cli import main

PICTURE = sorted((BUNDLED / "images").glob("*.png"))[0]
TEXTS = "a blue dotted star"


def detect(*arguments: object) -> int:
    return main(["detect", "--texts", TEXTS, *map(str, arguments)])


def lines_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text("utf-8").splitlines()]


def test_options_reach_the_inferencer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict = {}

    class Stub:
        weights_hash = "0" * 16
        calibration = None
        model = SimpleNamespace(encoder=SimpleNamespace(fingerprint="1" * 16))

        def __init__(self, *made: object) -> None:
            seen["made"] = made

        def set_vocabulary(self, words: object) -> None:
            seen["words"] = list(words.names)

        def set_negatives(self, words: object) -> None:
            seen["negatives"] = words if words in ("auto", None) else list(words.names)

        def limits(self, score_thr: float | None, conf_thr: float | None) -> Limits:
            seen["limits"] = (score_thr, conf_thr)
            return Limits.of(None, score_thr, None)

        def stream(self, images: list[str], **options: object) -> object:
            seen["options"] = options
            none = torch.zeros(0)
            answer = Detections([], none.reshape(0, 4), none, none.long(), ["x"], 8, 6, images[0])
            return Stream((pair for pair in [(answer, np.zeros((6, 8, 3), np.uint8))]), [])

    monkeypatch.setattr(inferencer, "OpenVocabInferencer", Stub)
    out = ("--no-save-vis", "--out-dir", tmp_path / "out")
    assert detect(PICTURE, "--preset", "fast", "--encoder", "a/b", *out) == 0
    assert seen["made"][:3] == ("photos/fast", None, "a/b") and seen["made"][4] == "auto"
    assert seen["negatives"] == "auto" and "tile" not in seen["options"]
    assert seen["limits"] == (None, None)
    told = {"score_thr": None, "conf_thr": None, "one_name": False}
    assert told.items() <= seen["options"].items()
    assert lines_of(tmp_path / "out")[0]["model"] == "photos/fast"
    own = ("--model", "c.py", "--weights", "w.pth", "--negatives", "a plate", "--batch-size", 3)
    assert detect(PICTURE, *own, "--tile", 64, "--score-thr", 0.125, *out) == 0
    assert seen["made"][:3] == ("c.py", "w.pth", None) and seen["negatives"] == ["a plate"]
    expected = {"tile": 64, "overlap": 0.2, "batch_size": 3, "score_thr": 0.125}
    assert expected.items() <= seen["options"].items()
    assert detect(PICTURE, "--conf-thr", 0.5, "--calibration", "c.json", "--one-name", *out) == 0
    assert seen["limits"] == (None, 0.5) and seen["made"][4] == "c.json"
    assert seen["options"]["conf_thr"] == 0.5 and seen["options"]["one_name"] is True
    assert detect(PICTURE, "--negatives", "none", "--calibration", "none", *out) == 0
    assert seen["negatives"] is None and seen["made"][4] is None
    assert detect(PICTURE, "--tile", 64, "--overlap", 0, *out) == 0
    assert seen["options"]["overlap"] == 0 and seen["options"]["keep_pixels"] is False
