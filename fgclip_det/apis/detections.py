"""The inferencer's answer for one picture."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image
from pycocotools import mask as mask_codec
from torch import Tensor

from fgclip_det.apis.drawing.visualization import Labels, draw_detections
from fgclip_det.io import is_id, listed, read_image

if TYPE_CHECKING:
    import supervision

# Beyond these digits a box, in pixels, and a score are noise.
BOX_DIGITS, SCORE_DIGITS = 2, 4


@dataclass(frozen=True)
class Closest:
    """A name that was looked for in vain, where the picture is most like it.

    Attributes:
        name: As it was asked for.
        certainty: Its confidence there, or its score where there are no confidences.
        rival: What fits that place better, though nobody asked for it; None where nothing does.
    """

    name: str
    certainty: float
    rival: str | None = None


@dataclass(frozen=True)
class Detections:
    """Boxes found in one picture, best first: by confidence where there is one, else by score.

    A score is a share of what competes for a box, so that it changes with what else is asked for. A
    confidence is the estimated probability that the box and its name are right, whatever else is
    asked for; only a calibrated detector has it.

    Attributes:
        names: M names, as they were asked for.
        boxes: (M, 4) float32 on the CPU, xyxy, in pixels of the picture (EXIF rotation applied).
        scores: (M,) float32 on the CPU, in [0, 1].
        labels: (M,) int64 on the CPU: rows of `vocabulary`.
        vocabulary: All names that were asked for.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
        image_path: Its file, or None where it was given as pixels.
        masks: (M, height, width) bool on the CPU, where they were asked for.
        ids: (M,) int64 on the CPU, which object of a video each is, where they were tracked; -1
            where that is not known.
        confidences: (M,) float32 on the CPU, in [0, 1]; None of a detector that is not calibrated.
        conf_thr: The least confidence of names that have no threshold of their own; None without.
        closest: Where nothing was found, what came closest, best first.
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
    confidences: Tensor | None = None
    conf_thr: float | None = None
    closest: tuple[Closest, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def certainties(self) -> Tensor:
        """(M,) float32, falling: the confidences, or the scores where there are none."""
        return self.scores if self.confidences is None else self.confidences

    def draw(self, image: np.ndarray | None = None, labels: Labels = "full") -> Image.Image:
        """The picture with what was found in it; see `draw_detections`.

        Args:
            image: (H, W, 3) uint8, RGB; None to read `image_path`.
            labels: What is said of a box.

        Raises:
            ValueError: The picture was given as pixels, or cannot be read any more.
        """
        return draw_detections(picture_of(self, image), self, labels)

    def _repr_png_(self) -> bytes | None:
        """For notebooks; None where the picture is not at hand."""
        return png_of(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values with all their digits; what the command line writes, it rounds.

        Returns:
            "image", "width", "height", "vocabulary", "conf_thr" and "detections": a "name",
            "score", "confidence" (None where there is none) and "box" (xyxy) of each, a "mask"
            (COCO's compressed RLE) where there are masks, and an "id" where there are ids. Where
            something came closest, "closest": a "name", "certainty" and "rival" of each.
        """
        columns = (self.scores.tolist(), self._confidences(), self.boxes.tolist())
        found: list[dict[str, Any]] = [
            {"name": name, "score": score, "confidence": confidence, "box": box}
            for name, score, confidence, box in zip(self.names, *columns, strict=True)
        ]
        if self.masks is not None:
            for row, mask in zip(found, self._mask_rles(), strict=True):
                row["mask"] = mask
        if self.ids is not None:
            for row, number in zip(found, self.ids.tolist(), strict=True):
                row["id"] = number
        told = {
            "image": self.image_path,
            "width": self.width,
            "height": self.height,
            "vocabulary": list(self.vocabulary),
            "conf_thr": self.conf_thr,
            "detections": found,
        }
        if self.closest:
            told["closest"] = [asdict(one) for one in self.closest]
        return told

    def to_coco(
        self,
        image_id: int,
        category_ids: Mapping[str, int] | None = None,
        score: Literal["confidence", "score"] | None = None,
    ) -> list[dict[str, Any]]:
        """Results as COCO's tools read them, with all their digits.

        Args:
            image_id: The picture's id in the annotations.
            category_ids: Id of each name; None counts the names of `vocabulary` from 1.
            score: What is written as "score"; None takes confidences where there are such.

        Returns:
            One for each detection, best first: "image_id", "category_id", "bbox" (x, y, width,
            height in pixels), "score", and a "segmentation" (compressed RLE) where there are masks.

        Raises:
            ValueError: An id is no whole number of 64 bits, or a name that was found has none, or
                there are no confidences.
        """
        values = self._figures(score).tolist()
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
        for number, value, box in zip(ids, values, self.boxes.tolist(), strict=True):
            x1, y1, x2, y2 = box
            bbox = [x1, y1, x2 - x1, y2 - y1]
            found.append(
                {"image_id": image_id, "category_id": number, "bbox": bbox, "score": value}
            )
        if self.masks is not None:
            for row, mask in zip(found, self._mask_rles(), strict=True):
                row["segmentation"] = mask
        return found

    def to_supervision(self) -> supervision.Detections:
        """As the package supervision takes them, to draw, count or track.

        Returns:
            With `xyxy` (M, 4) float32, `confidence` (M,) float32 (the confidences, or the scores
            where there are none), `class_id` (M,) int64, `mask` (M, height, width) bool and
            `tracker_id` (M,) int64 where there are such, and the names as `data["class_name"]`.

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
            confidence=self.certainties.numpy().copy(),
            class_id=self.labels.numpy().copy(),
            mask=None if self.masks is None else self.masks.numpy().copy(),
            tracker_id=None if self.ids is None else self.ids.numpy().copy(),
            data={"class_name": np.array(self.names, dtype=str)},
        )

    def _figures(self, kind: str | None) -> Tensor:
        if kind not in (None, "confidence", "score"):
            raise ValueError(f'score is {kind!r:.80}: it must be "confidence", "score" or None')
        if kind == "confidence" and self.confidences is None:
            raise ValueError(
                "there are no confidences: calibrate the detector (fgclip-det calibrate), or take "
                'score="score"'
            )
        return self.scores if kind == "score" else self.certainties

    def _confidences(self) -> list[float | None]:
        return [None] * len(self) if self.confidences is None else self.confidences.tolist()

    def _mask_rles(self) -> list[dict[str, Any]]:
        """COCO's compressed RLE of each mask: "size" (height, width) and "counts"."""
        rles = []
        for mask in self.masks if self.masks is not None else ():
            rle = mask_codec.encode(np.asfortranarray(mask.numpy(), dtype=np.uint8))
            rles.append({"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")})
        return rles


def picture_of(answer: Any, image: np.ndarray | None) -> np.ndarray:
    """(H, W, 3) uint8, RGB: what is given, or the picture of an answer.

    Raises:
        ValueError: It is not at hand, or of another size.
    """
    if image is None and answer.image_path is None:
        raise ValueError("the picture was given as pixels: give them here too, draw(pixels)")
    pixels = read_image(answer.image_path) if image is None else image
    size = tuple(getattr(pixels, "shape", ())[:2])
    if size != (answer.height, answer.width):
        raise ValueError(
            f"a picture of shape {size} for an answer of {answer.width} x {answer.height} pixels: "
            "give the picture that was asked"
        )
    return pixels


def png_of(answer: Any) -> bytes | None:
    """An answer as a notebook shows it; None where its picture is not at hand."""
    try:
        drawn = answer.draw()
    except ValueError:
        return None
    written = io.BytesIO()
    drawn.save(written, "PNG")
    return written.getvalue()


def rounded(told: dict[str, Any]) -> dict[str, Any]:
    """What `Detections.to_dict` tells, with boxes of 0.01 pixels and scores of 4 digits."""
    found = [
        {
            **row,
            "score": _short(row["score"]),
            "confidence": _short(row["confidence"]),
            "box": [round(value, BOX_DIGITS) for value in row["box"]],
        }
        for row in told["detections"]
    ]
    told = {**told, "detections": found}
    if "closest" in told:
        told["closest"] = [
            {**one, "certainty": _short(one["certainty"])} for one in told["closest"]
        ]
    return told


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, SCORE_DIGITS)
