"""Running statistics of plain batch norm, which each process gathers from its own batches."""

from __future__ import annotations

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def average_batch_statistics(model: nn.Module) -> None:
    """Give all processes the mean of their running means and variances. All processes call this.

    The variance between the processes' means is not part of it, as in MMEngine's
    ``SyncBuffersHook``, which averages all buffers, and before checkpoints only where an epoch
    ends. The mean is taken in float64: statistics that are equal stay so to the bit, whatever the
    number of processes. When this is called makes no difference but of rounding: the mean of moving
    averages is the moving average of means.

    Args:
        model: Its layers of batch norm are changed, but not those of ``SyncBatchNorm``.
    """
    if get_world_size() == 1:
        return
    statistics = [
        buffer
        for layer in model.modules()
        if isinstance(layer, _BatchNorm) and not isinstance(layer, nn.SyncBatchNorm)
        for buffer in (layer.running_mean, layer.running_var)
        if buffer is not None
    ]
    if not statistics:
        return
    means = torch.cat([one.double().flatten() for one in statistics])
    all_reduce(means, op="mean")
    for one, mean in zip(statistics, means.split([one.numel() for one in statistics]), strict=True):
        one.copy_(mean.view_as(one))
