"""Checkpoints of a sharded model: whole on disk, in parts in memory."""

from __future__ import annotations

from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import get_state_dict
from torch import Tensor

from fgclip_det.engine.sharding.fully_sharded_model import FullyShardedModel


@HOOKS.register_module()
class ShardedCheckpointHook(Hook):
    """Makes the checkpoint of a `FullyShardedModel` that of one process, and reads such ones.

    So a run may go on with another number of processes, or without sharding, and what reads
    checkpoints knows of none. `ResumableRunner` adds it where it is needed, and calls `gather` on
    every process before one of them writes.
    """

    _whole: dict[str, Any] | None = None

    def gather(self, runner: Runner, with_optimizer: bool) -> None:
        """Collect what the next checkpoint holds; each process has to call this.

        Args:
            runner: Its model is sharded.
            with_optimizer: Whether the checkpoint holds the optimizer.

        Raises:
            ValueError: There are several optimizers.
        """
        model: FullyShardedModel = runner.model
        state = get_state_dict(model.module)
        whole = {"state_dict": {name: _gathered(model, name, state[name]) for name in state}}
        if with_optimizer:
            wrapper = _single_wrapper(runner)
            names = _names_of_states(model, wrapper)
            whole["optimizer"] = {
                index: {
                    key: _gathered(model, "" if key == "step" else names[index], value)
                    for key, value in values.items()
                }
                for index, values in wrapper.optimizer.state_dict()["state"].items()
            }
        self._whole = whole if is_main_process() else None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put what was gathered in the place of this process's part."""
        whole, self._whole = self._whole, None
        assert whole is not None, "gather comes first"
        checkpoint["state_dict"] = whole["state_dict"]
        if "optimizer" in checkpoint:
            checkpoint["optimizer"]["state"] = whole["optimizer"]

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put this process's part in the place of what was read."""
        model: FullyShardedModel = runner.model
        own = get_state_dict(model.module, keep_vars=True)
        state = checkpoint["state_dict"]
        for key, tensor in state.items():
            name = key.removeprefix("module.")
            if name in own:
                state[key] = model.part_of(own[name], tensor)
        if runner._resume and "optimizer" in checkpoint:
            parameters = _parameters(_single_wrapper(runner))
            for index, values in checkpoint["optimizer"]["state"].items():
                for key, value in values.items():
                    if key != "step" and isinstance(value, Tensor):
                        values[key] = model.part_of(parameters[index], value)


def _single_wrapper(runner: Runner) -> OptimWrapper:
    if not isinstance(runner.optim_wrapper, OptimWrapper):
        raise ValueError("FullyShardedModel is trained by one optimizer: optim_wrapper names more")
    return runner.optim_wrapper


def _parameters(wrapper: OptimWrapper) -> list[Tensor]:
    """Parameters in the order in which an optimizer's state numbers them."""
    return [one for group in wrapper.optimizer.param_groups for one in group["params"]]


def _names_of_states(model: FullyShardedModel, wrapper: OptimWrapper) -> list[str]:
    names = {id(parameter): name for name, parameter in model.module.named_parameters()}
    return [names[id(parameter)] for parameter in _parameters(wrapper)]


def _gathered(model: FullyShardedModel, name: str, value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    whole = model.whole(name, value)
    # One whole tensor at a time is on the device, and no other process keeps it.
    return whole.cpu() if is_main_process() else None
