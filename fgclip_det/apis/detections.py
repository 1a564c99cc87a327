"""The inferencer's answer for one picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools import mask as mask_codec
from torch import Tensor

from fgclip_det.io import is_id, listed

if TYPE_CHECKING:
    import supervision

# Beyond these digits a box, in pixels, and a score are noise.
BOX_DIGITS, SCORE_DIGITS = 2, 4


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
        """Plain values with all their digits; what the command line writes, it rounds.

        Returns:
            "image", "width", "height", "vocabulary" and "detections": a "name", "score" and "box"
            (xyxy) of each, a "mask" (COCO's compressed RLE) where there are masks, and an "id"
            where there are ids.
        """
        rows = zip(self.names, self.scores.tolist(), self.boxes.tolist(), strict=True)
        found: list[dict[str, Any]] = [{"name": n, "score": s, "box": box} for n, s, box in rows]
        if self.masks is not None:
            for row, mask in zip(found, self._mask_rles(), strict=True):
                row["mask"] = mask
        if self.ids is not None:
            for row, number in zip(found, self.ids.tolist(), strict=True):
                row["id"] = number
        return {
            "image": self.image_path,
            "width": self.width,
            "height": self.height,
            "vocabulary": list(self.vocabulary),
            "detections": found,
        }

    def to_coco(
        self, image_id: int, category_ids: Mapping[str, int] | None = None
    ) -> list[dict[str, Any]]:
        """Results as COCO's tools read them, with all their digits.

        Args:
            image_id: The picture's id in the annotations.
            category_ids: Id of each name; None counts the names of `vocabulary` from 1.

        Returns:
            One for each detection, best first: "image_id", "category_id", "bbox" (x, y, width,
            height in pixels), "score", and a "segmentation" (compressed RLE) where there are masks.

        Raises:
            ValueError: An id is no whole number of 64 bits, or a name that was found has none.
        """
        if not is_id(image_id):
            raise ValueError(f"image_id is {image_id!r:.80}: give a whole number of 64 bits")
        if category_ids is None:
            ids = [label + 1 for label in self.labels.tolist()]
        else:
            missing = [name for name in dict.fromkeys(self.names) if name not in category_ids]
            if missing:
                shown = listed(missing, "names without an id")
                raise ValueError(f"category_ids has no {shown}: add an id for each")
            ids = [category_ids[name] for name in self.names]
        if odd := [number for number in ids if not is_id(number)]:
            raise ValueError(f"category_ids has {odd[0]!r:.80}: give whole numbers of 64 bits")
        found = []
        for number, score, box in zip(ids, self.scores.tolist(), self.boxes.tolist(), strict=True):
            x1, y1, x2, y2 = box
            bbox = [x1, y1, x2 - x1, y2 - y1]
            found.append(
                {"image_id": image_id, "category_id": number, "bbox": bbox, "score": score}
            )
        if self.masks is not None:
            for row, mask in zip(found, self._mask_rles(), strict=True):
                row["segmentation"] = mask
        return found

    def to_supervision(self) -> supervision.Detections:
        """As the package supervision takes them, to draw, count or track.

        Returns:
            With `xyxy` (M, 4) float32, `confidence` (M,) float32, `class_id` (M,) int64, `mask`
            (M, height, width) bool and `tracker_id` (M,) int64 where there are such, and the names
            as `data["class_name"]`.

        Raises:
            ImportError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise ImportError(
                f"supervision cannot be imported ({error}): pip install 'fgclip_det[video]'",
                name="supervision",
            ) from error
        return supervision.Detections(
            xyxy=self.boxes.numpy().reshape(-1, 4).copy(),
            confidence=self.scores.numpy().copy(),
            class_id=self.labels.numpy().copy(),
            mask=None if self.masks is None else self.masks.numpy().copy(),
            tracker_id=None if self.ids is None else self.ids.numpy().copy(),
            data={"class_name": np.array(self.names, dtype=str)},
        )

    def _mask_rles(self) -> list[dict[str, Any]]:
        """COCO's compressed RLE of each mask: "size" (height, width) and "counts"."""
        rles = []
        for mask in self.masks if self.masks is not None else ():
            rle = mask_codec.encode(np.asfortranarray(mask.numpy(), dtype=np.uint8))
            rles.append({"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")})
        return rles


def rounded(told: dict[str, Any]) -> dict[str, Any]:
    """What `Detections.to_dict` tells, with boxes of 0.01 pixels and scores of 4 digits."""
    found = [
        {
            **row,
            "score": round(row["score"], SCORE_DIGITS),
            "box": [round(value, BOX_DIGITS) for value in row["box"]],
        }
        for row in told["detections"]
    ]
    return {**told, "detections": found}
