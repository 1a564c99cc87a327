"""From an item and its picture to a training sample; the base of both data sets of FineHARD."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fgclip_det.datasets.finehard.left_out import NO_ITEM, ItemLeftOut, LeftOut
from fgclip_det.datasets.finehard.rules import FineHARDItem, FineHARDRules, RegionText
from fgclip_det.datasets.finehard.tokens import CaptionTokens
from fgclip_det.encoders.picture_frames import map_boxes, resize_picture
from fgclip_det.io import parse_json

# The authors' code of the second generation stretches a picture with a side below the first to a
# square of the second, in pixels.
_SMALL_SIDE, _STRETCHED_SIDE = 128, 512
_REGION_TEXTS = ("random", "short", "long")
_MOST_TRIES = 1000


class FineHARDSamples(Dataset):
    """Items of FineHARD, however they are stored.

    A sample is a dict of ``image`` ((3, H, W) uint8, RGB), ``short_caption``, ``long_caption``,
    ``boxes`` ((K, 4) float32, xyxy, in pixels of the image), ``region_captions`` (K captions) and
    ``hard_captions`` (K lists, the right caption first, then any number of wrong ones; empty where
    a region has none). A caption is a text, or with `tokenizer` a list of token ids.

    Where an item cannot be used, the next one that can takes its place, so that batches keep their
    size; `left_out` counts it.

    Args:
        generation: 1 for FG-CLIP, 2 for FG-CLIP 2: prefixes, case, lengths of captions.
        image_size: Side in pixels of the square that pictures are stretched to, by Pillow's
            bicubic resize as the authors do it; None leaves them as they are, for
            `collate_patches`.
        tokenizer: Directory or hub id of an encoder, to make tokens of captions in the workers.
        max_boxes: Regions of an item, the first ones.
        max_negatives: Wrong texts of a region, the first ones; None for all.
        region_text: Which of a region's two texts is its caption; "random" draws one each time it
            is read.
        as_published: Whether to read as the authors' code does, see `rules`.

    Attributes:
        left_out: What could not be used so far, by kind.

    Raises:
        ValueError: A setting that cannot be.
    """

    def __init__(
        self,
        generation: int = 1,
        image_size: int | None = None,
        tokenizer: str | None = None,
        max_boxes: int = 4,
        max_negatives: int | None = None,
        region_text: RegionText = "random",
        as_published: bool = False,
    ) -> None:
        if region_text not in _REGION_TEXTS:
            raise ValueError(f"region_text is {region_text!r}: choose one of {_REGION_TEXTS}")
        if image_size is not None and (type(image_size) is not int or image_size < 1):
            raise ValueError(f"image_size is {image_size!r}: give a side in pixels, or None")
        self.rules = FineHARDRules(generation, max_boxes, max_negatives, as_published)
        self.image_size = image_size
        self.region_text = region_text
        self.tokens = None if tokenizer is None else CaptionTokens(tokenizer, generation)
        self.left_out = LeftOut()

    def __len__(self) -> int:
        raise NotImplementedError

    def load(self, number: int) -> tuple[str, Callable[[FineHARDItem], np.ndarray]]:
        """The JSON text of an item, and what reads its picture: (H, W, 3) uint8, RGB.

        Raises:
            ItemLeftOut: It cannot be read.
        """
        raise NotImplementedError

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self.sample(number, random.Random(random.getrandbits(64)))

    def sample(self, number: int, draws: random.Random) -> dict[str, Any]:
        """The sample of an item, or of the next one that can be used.

        Args:
            number: Of the item.
            draws: What random choices are drawn from.

        Raises:
            ValueError: So many in a row cannot be used that something is wrong with all.
        """
        first = range(len(self))[number]
        for step in range(min(len(self), _MOST_TRIES)):
            try:
                return self._sample((first + step) % len(self), draws)
            except ItemLeftOut as error:
                self.left_out.add(error.kind)
                last = error
        raise ValueError(
            f"none of {min(len(self), _MOST_TRIES)} items from number {first} on can be used, at "
            f"last for: {last}; are the pictures and the annotations of one data set?"
        ) from None

    def _sample(self, number: int, draws: random.Random) -> dict[str, Any]:
        text, read_picture = self.load(number)
        try:
            record = parse_json(text, f"item {number}")
        except ValueError as error:
            raise ItemLeftOut(NO_ITEM, str(error)) from None
        item = self.rules.read(record)
        image = torch.from_numpy(read_picture(item)).permute(2, 0, 1)
        for kind in item.left_out:
            self.left_out.add(kind)
        image = self._resized(image)
        short = [region.short_text for region in item.regions]
        captions = [
            region.long_text if self._is_long(draws) else text
            for region, text in zip(item.regions, short, strict=True)
        ]
        shares = torch.tensor([r.box for r in item.regions], dtype=torch.float64).reshape(-1, 4)
        return {
            "image": image.contiguous(),
            "short_caption": self._caption(item.short_caption, "short"),
            "long_caption": self._caption(item.long_caption, "long"),
            "boxes": map_boxes(shares, (1, 1), tuple(image.shape[1:])),
            "region_captions": [self._caption(caption, "short") for caption in captions],
            "hard_captions": [
                [self._caption(caption, "short") for caption in region.hard_group]
                for region in item.regions
            ],
        }

    def _is_long(self, draws: random.Random) -> bool:
        if self.region_text == "random":
            return draws.random() < 0.5
        return self.region_text == "long"

    def _caption(self, text: str, length: str) -> str | list[int]:
        return text if self.tokens is None else self.tokens(text, length)

    def _resized(self, image: Tensor) -> Tensor:
        """(3, H, W) uint8 in the size that samples have."""
        side = self.image_size
        is_small = min(image.shape[1:]) < _SMALL_SIDE
        if side is None and self.rules.as_published and self.rules.generation == 2 and is_small:
            side = _STRETCHED_SIDE
        if side is None:
            return image
        return resize_picture(image, (side, side), "bicubic").to(torch.uint8)
