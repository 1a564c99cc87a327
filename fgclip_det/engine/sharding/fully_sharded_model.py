"""FSDP2 (torch's ``fully_shard``, arXiv 2304.11277) as an MMEngine model wrapper."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from mmengine.dist import broadcast, get_world_size
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS
from torch import Tensor, nn

from fgclip_det.encoders.layers import TransformerBlock


@MODEL_WRAPPERS.register_module()
class FullyShardedModel(nn.Module):
    """Spreads weights, gradients and the optimizer's state over the processes.

    Each block of each tower is a unit: its weights are gathered when it runs and when its gradients
    are computed. What lies outside of blocks (token tables, heads, scales) is one more unit, whole
    for all of a step. To be named in a config, for processes that a launcher started::

        model_wrapper_cfg = dict(type="FullyShardedModel")

    Training is that of ``DistributedDataParallel`` but for the order in which numbers are added.
    Checkpoints are those of one process, see `ShardedCheckpointHook`.

    Args:
        module: Model with `TransformerBlock` inside, on its device, all of whose passes go through
            ``forward``. It is changed in place: its weights begin as the first process has them.
        reshard_after_forward: Whether a block's weights are given up between the forward and the
            backward pass: less memory, and they are sent a second time.

    Raises:
        ValueError: There is no process group, or nothing to shard.
    """

    def __init__(self, module: BaseModel, reshard_after_forward: bool = True) -> None:
        super().__init__()
        blocks = [part for part in module.modules() if isinstance(part, TransformerBlock)]
        if not blocks:
            raise ValueError(
                f"FullyShardedModel finds no block of an encoder in {type(module).__name__}: leave "
                "model_wrapper_cfg out"
            )
        if not torch.distributed.is_initialized():
            raise ValueError(
                "FullyShardedModel needs processes that talk to each other: start with a launcher"
            )
        # Before the weights are parts of themselves, which no initialisation could fill.
        module.init_weights()
        for tensor in (*module.parameters(), *module.buffers()):
            broadcast(tensor.data)
        self.scalars = _lift_scalars(module)
        # By its name: to import it costs more than all else here, and few ask for it.
        fsdp = importlib.import_module("torch.distributed.fsdp")
        device = next(module.parameters()).device.type
        mesh = torch.distributed.device_mesh.init_device_mesh(device, (get_world_size(),))
        for block in blocks:
            fsdp.fully_shard(block, mesh=mesh, reshard_after_forward=reshard_after_forward)
            fsdp.register_fsdp_forward_method(block, "forward_value_path")
        self.module = fsdp.fully_shard(module, mesh=mesh)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """That of the module."""
        return self.module(*args, **kwargs)

    def train_step(self, data: Any, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One step of the module: forward, backward, and an update where one is due."""
        return self.module.train_step(data, optim_wrapper)

    def val_step(self, data: Any) -> Any:
        """That of the module."""
        return self.module.val_step(data)

    def test_step(self, data: Any) -> Any:
        """That of the module."""
        return self.module.test_step(data)

    def whole(self, name: str, tensor: Tensor) -> Tensor:
        """Gather a tensor; each process has to call this.

        Args:
            name: Of the parameter of the module that it is, or belongs to.
            tensor: Sharded as that is, or not sharded.

        Returns:
            In the shape that the parameter had before it was sharded, detached.
        """
        found = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
        is_scalar = name in self.scalars and found.dim()
        return (found.reshape(()) if is_scalar else found).detach()

    @staticmethod
    def part_of(parameter: Tensor, tensor: Tensor) -> Tensor:
        """This process's part of a whole tensor, sharded as a parameter is.

        Args:
            parameter: Of the module, or its gradient.
            tensor: Of the parameter's shape, and the same on all processes; one of another shape
                is given back as it is.
        """
        if not hasattr(parameter, "placements") or tensor.numel() != parameter.numel():
            return tensor
        distribute = torch.distributed.tensor.distribute_tensor
        return distribute(
            tensor.reshape(parameter.shape).to(parameter.device),
            parameter.device_mesh,
            parameter.placements,
            # Every process has read the whole of it.
            src_data_rank=None,
        )


def _lift_scalars(module: nn.Module) -> frozenset[str]:
    """Give parameters without a dimension one, which is what is sharded; returns their names."""
    names = [name for name, parameter in module.named_parameters() if not parameter.dim()]
    for name in names:
        owner, _, attribute = name.rpartition(".")
        scalar = module.get_parameter(name)
        lifted = nn.Parameter(scalar.detach().reshape(1), scalar.requires_grad)
        setattr(module.get_submodule(owner), attribute, lifted)
    return frozenset(names)
