"""The inferencer's answer for one picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Detections:
    """Boxes found in one picture, best first.

    Attributes:
        names: M names, as they were asked for.
        boxes: (M, 4) float32 on the CPU, xyxy, in pixels of the picture (EXIF rotation applied).
        scores: (M,) float32 on the CPU, in [0, 1], falling.
        labels: (M,) int64 on the CPU: rows of `vocabulary`.
        vocabulary: All names that were asked for.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
        image_path: Its file, or None where it was given as pixels.
        masks: (M, height, width) bool on the CPU, where they were asked for.
        ids: (M,) int64 on the CPU, which object of a video each is, where they were tracked; -1
            where that is not known.
    """

    names: list[str]
    boxes: Tensor
    scores: Tensor
    labels: Tensor
    vocabulary: list[str]
    width: int
    height: int
    image_path: str | None = None
    masks: Tensor | None = None
    ids: Tensor | None = None

    def __len__(self) -> int:
        return len(self.names)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the command line writes them to JSON."""
        rows = zip(self.names, self.scores.tolist(), self.boxes.tolist(), strict=True)
        return {
            "image": self.image_path,
            "width": self.width,
            "height": self.height,
            "vocabulary": list(self.vocabulary),
            "detections": [{"name": n, "score": s, "box": box} for n, s, box in rows],
        }
