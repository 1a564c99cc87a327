"""Features of pictures, texts and boxes; each picture and each distinct text is encoded once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fgclip_det.evaluation.encoder.rules import EncoderRules
from fgclip_det.io import read_image

# Texts that are encoded at once.
_TEXTS = 256


class Features:
    """Features by the rules of a protocol.

    Args:
        rules: Those of the protocol.
        batch_size: Pictures that are encoded at once.
        progress: Whether to show progress bars, with the time left.

    Attributes:
        counts: Pictures and distinct texts that the encoder was asked for, and texts that are
            longer than its tower takes.
    """

    def __init__(self, rules: EncoderRules, batch_size: int = 32, progress: bool = False) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: it must be at least 1")
        self.rules = rules
        self.batch_size = batch_size
        self.progress = progress
        self.counts = {"pictures_encoded": 0, "texts_encoded": 0, "texts_cut": 0}

    def texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D) float32 on the CPU; equal texts have equal rows."""
        different = list(dict.fromkeys(texts))
        rows = self.rules.tokens(different)
        self.counts["texts_cut"] += self.rules.count_cut(different, rows)
        row_of = dict(zip(different, rows, strict=True))
        # By length, so that little padding is computed.
        distinct = sorted(dict.fromkeys(rows), key=len)
        place = {row: number for number, row in enumerate(distinct)}
        found = []
        with self._bar(len(distinct), "texts") as bar:
            for start in range(0, len(distinct), _TEXTS):
                part = distinct[start : start + _TEXTS]
                found.append(self.rules.encode_tokens(part).cpu())
                self.counts["texts_encoded"] += len(part)
                bar.update(len(part))
        return torch.cat(found)[[place[row_of[text]] for text in texts]]

    def pictures(self, paths: Sequence[Path]) -> Tensor:
        """P picture files -> (P, D) float32 on the CPU."""
        found = []
        with self._bar(len(paths), "pictures") as bar:
            for start in range(0, len(paths), self.batch_size):
                part = paths[start : start + self.batch_size]
                pictures = [read_image(path, "stored") for path in part]
                found.append(self.rules.encode_pictures(pictures).cpu())
                self.counts["pictures_encoded"] += len(part)
                bar.update(len(part))
        return torch.cat(found)

    def boxes(self, paths: Sequence[Path], owners: Sequence[int], corners: np.ndarray) -> Tensor:
        """Features of boxes; a picture without one is not read.

        Args:
            paths: P picture files.
            owners: Picture of each of K boxes.
            corners: (K, 4) float64, xyxy, in pixels of the pictures as stored.

        Returns:
            (K, D) float32 on the CPU.
        """
        own: dict[int, list[int]] = defaultdict(list)
        for number, owner in enumerate(owners):
            own[owner].append(number)
        used, found = sorted(own), []
        with self._bar(len(used), "pictures") as bar:
            for start in range(0, len(used), self.batch_size):
                part = used[start : start + self.batch_size]
                pictures = [read_image(paths[one], "stored") for one in part]
                boxes = [corners[own[one]] for one in part]
                found += [rows.cpu() for rows in self.rules.encode_boxes(pictures, boxes)]
                self.counts["pictures_encoded"] += len(part)
                bar.update(len(part))
        order = torch.tensor([number for one in used for number in own[one]])
        features = torch.cat(found)
        in_order = torch.empty_like(features)
        in_order[order] = features
        return in_order

    def _bar(self, total: int, what: str) -> tqdm:
        return tqdm(total=total, desc=what, disable=None if self.progress else True)
