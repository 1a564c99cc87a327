"""Text embeddings at unit length, made once for all pictures that are asked for them."""

from __future__ import annotations

import weakref

import torch
import torch.nn.functional as F
from torch import Tensor

# Up to this many numbers, 64 MB of them, are kept.
_MOST_KEPT = 1 << 24


class UnitRows:
    """(C, D) embeddings at unit length, and those of the last call kept.

    One vocabulary is asked of one picture after another. Where it has ten thousand names, their
    lengths take as long as the cosines of a small picture's regions.

    Kept is what the very same tensor gave, as long as nobody writes into it. As autograd does, it
    learns of writes by the tensor's version: what is written past that, through ``.data`` or the
    memory shared with NumPy, it does not see.
    """

    def __init__(self) -> None:
        # In one piece: another thread may ask for another vocabulary meanwhile.
        self._last: tuple[weakref.ref[Tensor], tuple[int, int, int], Tensor] | None = None

    def __call__(self, embeddings: Tensor, last: Tensor | None = None) -> Tensor:
        """Unit rows.

        Args:
            embeddings: (C, D), of any length each.
            last: (D,), one more row, which may be another each time; None for none.

        Returns:
            (C, D) or (C + 1, D) float32, not to be written into; the next call may.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            if embeddings.numel() <= _MOST_KEPT and _may_keep(embeddings):
                return self._kept(embeddings, last)
            parts = [embeddings] if last is None else [embeddings, last[None]]
            return F.normalize(torch.cat([part.float() for part in parts]), dim=-1)

    def _kept(self, embeddings: Tensor, last: Tensor | None) -> Tensor:
        size = len(embeddings) + (last is not None)
        state = embeddings._version, embeddings.data_ptr(), size
        of, before, rows = self._last or (None, None, None)
        if of is None or of() is not embeddings or before != state:
            rows = embeddings.new_empty(size, embeddings.shape[1], dtype=torch.float32)
            rows[: len(embeddings)] = F.normalize(embeddings.float(), dim=-1)
            self._last = weakref.ref(embeddings), state, rows
        if last is not None:
            rows[-1] = F.normalize(last.float(), dim=-1)
        return rows

    def __reduce__(self) -> tuple:
        # A copy, and what is pickled, begins with nothing: weak references cannot be pickled.
        return UnitRows, ()


def _may_keep(embeddings: Tensor) -> bool:
    # First, since compilers do not know the other questions. What is traced would keep the rows.
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    # Where gradients flow, the graph would hold rows that the next call writes into; tensors of
    # inference mode have no version, and functorch's no memory.
    inference = torch.is_inference_mode_enabled() or embeddings.is_inference()
    transformed = torch._C._are_functorch_transforms_active()
    return not (torch.is_grad_enabled() or inference or transformed)
