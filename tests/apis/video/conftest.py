"""Small videos, and a detector that sees colours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fgclip_det.apis.detections import Detections
from fgclip_det.apis.scores.limits import Limits
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary

COLOURS = {"red": (220, 30, 30), "blue": (30, 40, 220)}


class ColourDetector:
    """Stands in for an `OpenVocabInferencer`: finds the red and the blue part of a picture.

    Attributes:
        calls: How many pictures it was shown.
        stop_at: The call that is interrupted; None for none.
    """

    def __init__(self) -> None:
        self.weights_hash = "0123456789abcdef"
        self.model = SimpleNamespace(encoder=SimpleNamespace(fingerprint="fedcba9876543210"))
        self.competing = {"auto": None, "own": None, "calibration": None}
        self.calls, self.stop_at = 0, None

    def encode(self, texts: object = None) -> TextEmbeddings:
        vocabulary = Vocabulary.parse("red. blue" if texts is None else texts)
        embeddings = F.normalize(torch.ones(len(vocabulary.names), 4), dim=-1)
        return TextEmbeddings(vocabulary, embeddings, "fedcba9876543210", "short")

    def limits(self, score_thr=None, conf_thr=None) -> Limits:
        return Limits.of(None, score_thr, conf_thr)

    def stream(self, images, texts, *, score_thr, progress, **options):
        for rgb in images:
            self.calls += 1
            if self.calls == self.stop_at:
                raise KeyboardInterrupt
            yield self._found(rgb.astype(int), texts, self.limits(score_thr).score_thr)

    def _found(self, rgb: np.ndarray, texts: TextEmbeddings, score_thr: float) -> Detections:
        names, boxes, scores = [], [], []
        for name, score in (("red", 0.81234567), ("blue", 0.6)):
            near = np.abs(rgb - COLOURS[name]).sum(-1) < 120
            if name in texts.names and near.any() and score >= score_thr:
                rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
                names.append(name)
                boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
                scores.append(score)
        return Detections(
            names=names,
            boxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
            scores=torch.tensor(scores),
            labels=torch.tensor([texts.names.index(name) for name in names]).long(),
            vocabulary=list(texts.names),
            width=rgb.shape[1],
            height=rgb.shape[0],
        )


@pytest.fixture
def detector() -> ColourDetector:
    return ColourDetector()


def squares(count: int, size: tuple[int, int] = (64, 96)) -> list[np.ndarray]:
    """Frames in which a red square moves to the right and a blue one to the left, below it."""
    frames = []
    for index in range(count):
        rgb = np.full((*size, 3), 128, np.uint8)
        rgb[8:24, 4 + 2 * index : 20 + 2 * index] = COLOURS["red"]
        rgb[40:56, 76 - 2 * index : 92 - 2 * index] = COLOURS["blue"]
        frames.append(rgb)
    return frames


def write_frames(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    times: Iterable[float] | None = None,
    rate: int = 25,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    change: Callable[[object], None] = lambda stream: None,
) -> Path:
    """Writes a video by PyAV alone."""
    frames = list(frames)
    times = [index / rate for index in range(len(frames))] if times is None else list(times)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        stream.codec_context.time_base = stream.time_base = Fraction(1, 10_000)
        change(stream)
        for rgb, time_s in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = round(time_s * 10_000), Fraction(1, 10_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Twelve frames of two moving squares."""
    return write_frames(tmp_path / "clip.mp4", squares(12))
