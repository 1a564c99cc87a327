"""Features of pictures, texts and boxes; each picture and each distinct text is encoded once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fgclip_det.evaluation.encoder.features.feature_store import FeatureStore
from fgclip_det.evaluation.encoder.rules import EncoderRules
from fgclip_det.evaluation.processes import process_number, put_together
from fgclip_det.io import read_image

_Item = TypeVar("_Item")
# Tokens that are encoded at once, padding too: more are no faster on a CPU, but are padded more.
_TOKENS = 4096
# Pictures that are encoded at once: one of 1,024 patches fills a CPU alone, a GPU wants many.
_PICTURES = {"cpu": 2}
_PICTURES_ELSEWHERE = 32


class Features:
    """Features by the rules of a protocol.

    Batches are formed of all that is asked for, whatever the store has and however many processes
    share them: a run that was killed goes on with the batches that it would have made.

    Args:
        rules: Those of the protocol.
        batch_size: Pictures that are encoded at once; None is 2 on a CPU and 32 elsewhere.
        progress: Whether to show progress bars, with the time left.
        store: Where features are looked for and kept.

    Attributes:
        counts: Pictures and distinct texts that the encoder was asked for, by all processes, and
            texts that are longer than its tower takes.
    """

    def __init__(
        self,
        rules: EncoderRules,
        batch_size: int | None = None,
        progress: bool = False,
        store: FeatureStore | None = None,
    ) -> None:
        if batch_size is None:
            batch_size = _PICTURES.get(rules.encoder.device.type, _PICTURES_ELSEWHERE)
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: it must be at least 1")
        self.rules = rules
        self.batch_size = batch_size
        self.progress = progress
        self.store = store
        self.counts = {"pictures_encoded": 0, "texts_encoded": 0, "texts_cut": 0}

    def texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D) float32 on the CPU; equal texts have equal rows."""
        different = list(dict.fromkeys(texts))
        row_of = dict(zip(different, self.rules.tokens(different), strict=True))
        self.counts["texts_cut"] += self.rules.count_cut(different, list(row_of.values()))
        # By length, so that little padding is computed.
        distinct = sorted(dict.fromkeys(row_of.values()), key=len)
        place = {row: number for number, row in enumerate(distinct)}

        def encode(batch: Sequence[tuple[int, ...]]) -> Tensor:
            self.counts["texts_encoded"] += len(batch)
            return self.rules.encode_tokens(batch)

        found = self._shared(
            "texts", _batches_of_tokens(distinct, _TOKENS), encode, FeatureStore.text
        )
        return found[[place[row_of[text]] for text in texts]]

    def pictures(self, paths: Sequence[Path]) -> Tensor:
        """P picture files -> (P, D) float32 on the CPU."""
        distinct = self.rules.by_size(dict.fromkeys(paths))
        place = {path: number for number, path in enumerate(distinct)}

        def encode(batch: Sequence[Path]) -> Tensor:
            self.counts["pictures_encoded"] += len(batch)
            return self.rules.encode_pictures([read_image(path, "stored") for path in batch])

        batches = _batches(distinct, self.batch_size)
        found = self._shared("pictures", batches, encode, FeatureStore.picture)
        return found[[place[path] for path in paths]]

    def boxes(self, paths: Sequence[Path], owners: Sequence[int], corners: np.ndarray) -> Tensor:
        """Features of boxes; a picture without one is not read.

        Args:
            paths: P picture files.
            owners: Picture of each of K boxes.
            corners: (K, 4) float64, xyxy, in pixels of the pictures as stored.

        Returns:
            (K, D) float32 on the CPU.
        """
        own: dict[Path, list[int]] = defaultdict(list)
        for number, owner in enumerate(owners):
            own[paths[owner]].append(number)
        used = self.rules.by_size(own)

        def encode(batch: Sequence[tuple[Path, np.ndarray]]) -> Tensor:
            some: dict[Path, list[np.ndarray]] = defaultdict(list)
            for path, box in batch:
                some[path].append(box)
            self.counts["pictures_encoded"] += len(some)
            pictures = [read_image(path, "stored") for path in some]
            boxes = [np.stack(corners) for corners in some.values()]
            for path, picture, inside in zip(some, pictures, boxes, strict=True):
                _check_boxes(path, picture, inside)
            return torch.cat(self.rules.encode_boxes(pictures, boxes))

        batches = [
            [(path, corners[number]) for path in part for number in own[path]]
            for part in _batches(used, self.batch_size)
        ]
        found = self._shared("boxes", batches, encode, lambda store, box: store.box(*box))
        features = torch.empty_like(found)
        features[[number for path in used for number in own[path]]] = found
        return features

    def _shared(
        self,
        what: str,
        batches: Sequence[Sequence[_Item]],
        encode: Callable[[Sequence[_Item]], Tensor],
        key: Callable[[FeatureStore, _Item], bytes],
    ) -> Tensor:
        """(N, D) features of the items of all batches; each process makes every so many batches."""
        number, processes = process_number()
        ends = list(accumulate(map(len, batches)))
        features = torch.zeros(ends[-1] if ends else 0, self.rules.encoder.projection_dim)
        own = list(zip(batches, ends, strict=True))[number::processes]
        total = sum(len(batch) for batch, _ in own)
        counter = "texts_encoded" if what == "texts" else "pictures_encoded"
        before, self.counts[counter] = self.counts[counter], 0
        is_shown = self.progress and number == 0
        with tqdm(total=total, desc=what, disable=None if is_shown else True) as bar:
            for batch, end in own:
                features[end - len(batch) : end] = self._found(batch, encode, key)
                bar.update(len(batch))
        self.counts[counter] = before + int(put_together(torch.tensor(self.counts[counter])))
        return put_together(features)

    def _found(
        self,
        batch: Sequence[_Item],
        encode: Callable[[Sequence[_Item]], Tensor],
        key: Callable[[FeatureStore, _Item], bytes],
    ) -> Tensor:
        """Features of a batch, on the CPU: those that the store has not are encoded, and kept."""
        if self.store is None:
            return encode(batch).cpu()
        keys = [key(self.store, item) for item in batch]
        found = self.store.find(keys)
        new = {one: item for one, item in zip(keys, batch, strict=True) if one not in found}
        if new:
            made = encode([*new.values()]).cpu().numpy()
            self.store.add([*new], made)
            found |= zip(new, made, strict=True)
        return torch.from_numpy(np.stack([found[one] for one in keys]))


def _check_boxes(path: Path, picture: np.ndarray, corners: np.ndarray) -> None:
    """Refuse boxes of another picture, whose size is without bound, as is the time they take."""
    height, width = picture.shape[:2]
    sides = np.array([width, height])
    outside = (corners[:, :2] < -sides) | (corners[:, 2:] > 2 * sides)
    if outside.any():
        x1, y1, x2, y2 = corners[outside.any(axis=1)][0].tolist()
        raise ValueError(
            f"the bbox {[x1, y1, x2 - x1, y2 - y1]} (x, y, width, height) leaves the picture "
            f"{str(path)!r} of {width} x {height} px by far: is it another picture?"
        )


def _batches(items: Sequence[_Item], size: int) -> list[Sequence[_Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _batches_of_tokens(
    rows: Sequence[tuple[int, ...]], most: int
) -> list[Sequence[tuple[int, ...]]]:
    """Rising rows in batches that have at most so many tokens once they are padded."""
    batches, start = [], 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or (end + 1 - start) * len(rows[end]) > most:
            batches.append(rows[start:end])
            start = end
    return batches
