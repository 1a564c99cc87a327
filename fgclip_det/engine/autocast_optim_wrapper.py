"""Mixed precision on CUDA and on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import nn
from torch.optim import Optimizer

AMP_DTYPES = ("float16", "bfloat16")


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(AmpOptimWrapper):
    """MMEngine's `AmpOptimWrapper` for any device that torch's autocast knows.

    Gradients of float16 are scaled, those of bfloat16, which reaches as far as float32, are not.

    Args:
        optimizer: The optimizer.
        dtype: "float16" or "bfloat16"; None is float16 on CUDA, as MMEngine has it, and bfloat16
            elsewhere.
        loss_scale: "dynamic", a fixed scale, or arguments of `torch.amp.GradScaler`.
        accumulative_counts: Batches for one update.
        clip_grad: Arguments of torch's gradient clipping, ``type`` "norm" or "value" among them.

    Raises:
        ValueError: Another `dtype`, or another kind of `loss_scale`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        dtype: str | None = None,
        loss_scale: str | float | dict = "dynamic",
        accumulative_counts: int = 1,
        clip_grad: dict | None = None,
    ) -> None:
        # Not the parent's, which wants CUDA.
        OptimWrapper.__init__(self, optimizer, accumulative_counts, clip_grad)
        self.device_type = torch.device(get_device()).type
        if dtype is None:
            dtype = "float16" if self.device_type == "cuda" else "bfloat16"
        if dtype not in AMP_DTYPES:
            raise ValueError(f"optim_wrapper.dtype must be one of {AMP_DTYPES}, got {dtype!r}")
        self.cast_dtype = getattr(torch, dtype)
        self._scale_update_param = None
        if loss_scale == "dynamic":
            arguments = {}
        elif isinstance(loss_scale, int | float) and not isinstance(loss_scale, bool):
            self._scale_update_param = float(loss_scale)
            arguments = {"init_scale": float(loss_scale)}
        elif isinstance(loss_scale, dict):
            arguments = dict(loss_scale)
        else:
            raise ValueError(
                'optim_wrapper.loss_scale must be "dynamic", a number or arguments of GradScaler, '
                f"got {loss_scale!r}"
            )
        enabled = arguments.pop("enabled", True) and dtype == "float16"
        self.loss_scaler = torch.amp.GradScaler(self.device_type, enabled=enabled, **arguments)

    def load_state_dict(self, state_dict: dict) -> None:
        """Go on from a state, one of another precision too: the scale then starts anew."""
        if not state_dict.get("loss_scaler", True):
            state_dict = {key: state_dict[key] for key in state_dict if key != "loss_scaler"}
        super().load_state_dict(state_dict)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast for the forward pass, and no synchronisation while gradients accumulate."""
        autocast = torch.autocast(self.device_type, self.cast_dtype)
        with OptimWrapper.optim_context(self, model), autocast:
            yield
