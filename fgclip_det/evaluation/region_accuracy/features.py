"""Features of boxes in pictures, by the protocols of FG-CLIP and at a detector's resolution.

* FG-CLIP: the picture is squeezed to the square that the encoder was trained on.
* FG-CLIP 2: the aspect ratio is kept, within a number of patches that depends on the size of the
  picture.
* Either, at a side that one names: as a square, or with the aspect ratio kept, as a detector sees
  pictures; then the dense map is rectangular.

Pillow resizes, as in FG-CLIP's own evaluation. Boxes follow the picture axis by axis.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fgclip_det.encoders import FGCLIP, FGCLIP2, RegionEncoder
from fgclip_det.evaluation.processes import process_number, put_together
from fgclip_det.io import read_image

# Annotations may overhang a picture by rounding; more means another picture, or corners for sides.
_OVERHANG = 2.0


def region_features(
    encoder: FGCLIP | FGCLIP2,
    paths: Sequence[Path],
    boxes: Sequence[Sequence[float]],
    image_size: int | None = None,
    keep_ratio: bool = False,
    batch_size: int = 32,
    progress: bool = False,
) -> Tensor:
    """Features of boxes; each picture is read and encoded once, by one of the processes.

    Args:
        encoder: The dual encoder.
        paths: Picture of each of K boxes.
        boxes: K boxes xyxy, in px of the pictures as stored.
        image_size: Side in px of the square, or of the longest side; see `described`.
        keep_ratio: Whether to keep the aspect ratio.
        batch_size: Pictures in memory at once.
        progress: Whether to show a progress bar.

    Returns:
        (K, D) float32 on the encoder's device, of unit length; NaN where a box covers no cell of
        the map.

    Raises:
        ValueError: A picture cannot be read or is another than the annotated one, or `image_size`
            does not suit the encoder.
    """
    reader = _reader(encoder, image_size, keep_ratio)
    by_picture: dict[Path, list[int]] = defaultdict(list)
    for index, path in enumerate(paths):
        by_picture[path].append(index)
    files, groups = list(by_picture), list(by_picture.values())
    number, processes = process_number()
    starts = range(0, len(files), batch_size)[number::processes]
    # Made before the first picture: of a process that has no batch too.
    features = torch.zeros(len(paths), encoder.projection_dim)
    total = sum(min(batch_size, len(files) - start) for start in starts)
    with tqdm(total=total, desc="pictures", disable=None if progress else True) as bar:
        for start in starts:
            part = slice(start, start + batch_size)
            pictures = [read_image(path, "stored") for path in files[part]]
            corners = [
                torch.tensor([boxes[i] for i in group], dtype=torch.float64).view(-1, 4)
                for group in groups[part]
            ]
            for path, picture, own in zip(files[part], pictures, corners, strict=True):
                _check_boxes(path, picture, own)
            tensors = [torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures]
            for group, found in zip(
                groups[part], reader(tensors, corners, normalize=False), strict=True
            ):
                features[group] = found.cpu()
            bar.update(len(pictures))
    features = put_together(features).to(encoder.device)
    # No guard against 0 / 0: a cosine with nothing is no number.
    return features / features.norm(dim=-1, keepdim=True)


def described(encoder: FGCLIP | FGCLIP2, image_size: int | None, keep_ratio: bool) -> str:
    """The way of the pictures in words, for a table."""
    if _is_packed(encoder, image_size, keep_ratio):
        return "aspect ratio and number of patches by FG-CLIP 2's processor"
    side = image_size or encoder.image_size
    return f"aspect ratio kept, longest side {side} px" if keep_ratio else f"{side} x {side} px"


def check_image_size(encoder: FGCLIP | FGCLIP2, image_size: int | None, keep_ratio: bool) -> None:
    """Refuse a side that leaves the encoder pixels without a patch.

    Raises:
        ValueError: As said.
    """
    if _is_packed(encoder, image_size, keep_ratio):
        return
    side, patch = encoder.image_size if image_size is None else image_size, encoder.patch_size
    if side < patch or side % patch:
        raise ValueError(
            f"image_size is {side} px, but the encoder's patches have {patch}: take a multiple of "
            f"that, such as {max(1, round(side / patch)) * patch}"
        )


def _is_packed(encoder: FGCLIP | FGCLIP2, image_size: int | None, keep_ratio: bool) -> bool:
    return isinstance(encoder, FGCLIP2) and image_size is None and not keep_ratio


def _reader(encoder: FGCLIP | FGCLIP2, image_size: int | None, keep_ratio: bool) -> RegionEncoder:
    """Reads pictures by the protocol that the arguments stand for, as `described`."""
    check_image_size(encoder, image_size, keep_ratio)
    if _is_packed(encoder, image_size, keep_ratio):
        return RegionEncoder(encoder, "patches")
    resize = "keep_ratio" if keep_ratio else "squash"
    return RegionEncoder(encoder, resize, image_size, interpolation="bicubic")


def _check_boxes(path: Path, picture: np.ndarray, boxes: Tensor) -> None:
    height, width = picture.shape[:2]
    limit = torch.tensor([width, height]) + _OVERHANG
    outside = ((boxes[:, :2] < -_OVERHANG) | (boxes[:, 2:] > limit)).any(dim=1)
    if outside.any():
        x1, y1, x2, y2 = boxes[outside][0].tolist()
        raise ValueError(
            f"bbox {[x1, y1, x2 - x1, y2 - y1]} (x, y, width, height) leaves the picture "
            f"{str(path)!r} of {width} x {height} px: are corners given for width "
            "and height, or is it another picture?"
        )
