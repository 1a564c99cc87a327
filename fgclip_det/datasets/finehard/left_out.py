"""What a reader leaves out, counted by kind, whichever worker reads it."""

from __future__ import annotations

import torch
from torch.utils.data import get_worker_info

# Kinds of items that are left out as a whole.
NO_ITEM = "item is no JSON object"
NO_PATH = "item without f_path"
NO_CAPTION = "item without caption"
NO_SHORT_CAPTION = "item without short_caption"
NO_PICTURE = "picture is missing"
BROKEN_PICTURE = "picture cannot be read"
CHINESE = "item in Chinese, for the first generation"
TWICE = "item that was there before"
NOT_IN_SHARD = "item that its shard does not hold"
AUTHORS_REFUSE = "item that the authors' code does not take"
# Kinds of what is left out of an item that is used.
NO_BOXES = "item without bbox_info, used without regions"
BAD_BOX = "region without a box in the picture"
NO_REGION_TEXT = "region without text"
NO_NEGATIVES = "region that is to have wrong texts and has none"
BAD_NEGATIVE = "wrong text that is empty, repeated or the right one"

KINDS = (
    *(NO_ITEM, NO_PATH, NO_CAPTION, NO_SHORT_CAPTION, NO_PICTURE, BROKEN_PICTURE, CHINESE, TWICE),
    *(NOT_IN_SHARD, AUTHORS_REFUSE, NO_BOXES, BAD_BOX, NO_REGION_TEXT, NO_NEGATIVES, BAD_NEGATIVE),
)
# Workers beyond so many share rows, and might lose a count.
_WORKERS = 128


class ItemLeftOut(ValueError):
    """An item cannot be used.

    Attributes:
        kind: One of `KINDS`.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


class LeftOut:
    """Counts that the workers of a data loader add to and the main process reads.

    They lie in shared memory, a row for each worker, so that none waits for another.

    Attributes:
        kinds: What `counts` are of.
    """

    kinds = KINDS

    def __init__(self) -> None:
        self._counts = torch.zeros(_WORKERS + 1, len(KINDS), dtype=torch.int64).share_memory_()

    def add(self, kind: str, number: int = 1) -> None:
        """Count something that was left out."""
        worker = get_worker_info()
        row = 0 if worker is None else 1 + worker.id % _WORKERS
        self._counts[row, KINDS.index(kind)] += number

    @property
    def counts(self) -> torch.Tensor:
        """(len(KINDS),) int64: of all workers, since the data set was made."""
        return self._counts.sum(dim=0)

    def named(self) -> dict[str, int]:
        """Those of `counts` that are not zero, by kind."""
        return {
            kind: number for kind, number in zip(KINDS, self.counts.tolist(), strict=True) if number
        }
