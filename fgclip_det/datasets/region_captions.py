"""Pictures with captions of the whole and of regions, for training FG-CLIP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmdet.registry import DATASETS
from mmengine.registry import FUNCTIONS
from torch.utils.data import Dataset

from fgclip_det.io import check_stored_size, parse_json, read_bytes, read_image


@DATASETS.register_module()
class RegionCaptionDataset(Dataset):
    """Reads JSON lines, one picture each.

    A line is ``{"file_name", "width", "height", "short_caption", "long_caption", "regions":
    [{"bbox": [x1, y1, x2, y2], "caption", "negatives": [caption, ...]}]}``; boxes are in pixels of
    the picture as stored.

    An item is a dict of ``image`` ((3, H, W) uint8, RGB), ``short_caption``, ``long_caption``,
    ``boxes`` ((K, 4) float32, xyxy, in pixels of the image), ``region_captions`` (K strings) and
    ``hard_captions`` (K lists, the caption first and then its negatives).

    Args:
        ann_file: The JSON-lines file.
        image_root: Folder that ``file_name`` is relative to.

    Raises:
        ValueError: The file is missing or empty; on access, a line or a picture cannot be read.
    """

    def __init__(self, ann_file: str, image_root: str) -> None:
        self.ann_file = str(ann_file)
        self.image_root = Path(image_root)
        if not Path(ann_file).is_file():
            raise ValueError(
                f"no caption file {self.ann_file!r}: check ann_file, or make it first "
                "(tools/prepare_shapes.py for Shapes)"
            )
        # Kept as text and parsed on access: workers share one block of memory, not object trees.
        self._lines = read_bytes(ann_file, "caption file").splitlines()
        if not self._lines:
            raise ValueError(f"caption file {self.ann_file!r} is empty: make it again")

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: int) -> dict[str, Any]:
        place = f"{self.ann_file}:{range(len(self))[index] + 1}"
        try:
            record = parse_json(self._lines[index], place)
            regions = record["regions"]
            boxes = torch.tensor([r["bbox"] for r in regions], dtype=torch.float32).reshape(-1, 4)
            item = {
                "short_caption": record["short_caption"],
                "long_caption": record["long_caption"],
                "boxes": boxes,
                "region_captions": [r["caption"] for r in regions],
                "hard_captions": [[r["caption"], *r["negatives"]] for r in regions],
            }
            path = self.image_root / record["file_name"]
            annotated = record.get("width"), record.get("height")
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            detail = f"{type(error).__name__}: {error}"
            raise ValueError(f"{place} is not a caption record ({detail}): mend the line") from None
        return {"image": _read_image(path, place, annotated), **item}


def _read_image(path: Path, place: str, annotated: tuple[Any, Any]) -> torch.Tensor:
    """(3, H, W) uint8, RGB."""
    try:
        pixels = read_image(path, "stored")
        check_stored_size(path, pixels.shape[1::-1], annotated)
    except ValueError as error:
        raise ValueError(f"{place} names {str(path)!r}: {error}; is image_root right?") from None
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


@FUNCTIONS.register_module()
def collate_region_captions(items: list[dict[str, Any]]) -> dict[str, list]:
    """Batch of items of `RegionCaptionDataset`: for each key the list of its values.

    MMEngine's own collate functions transpose lists of strings and refuse uneven ones.
    """
    return {key: [item[key] for item in items] for key in items[0]}
