"""Fine-tuning from weights that fit a part of the model."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner


@HOOKS.register_module()
class PartialWeightsHook(Hook):
    """Leaves named parts of the model out when ``load_from`` is read; all else must fit as ever.

    Checkpoints are read strictly, since a detector with a head at random looks trained and is not.
    Where one part is to start anew, a config says so::

        load_from = "ovdet.pth"
        custom_hooks = [dict(type="PartialWeightsHook", skip=["roi_head.bbox_head."])]

    The parts start as the config initialises them. Resuming is not touched by this.

    Args:
        skip: How the names of the parameters and buffers begin that are not read.

    Raises:
        ValueError: `skip` is empty.
    """

    def __init__(self, skip: Sequence[str]) -> None:
        if isinstance(skip, str) or not skip:
            raise ValueError(
                f"PartialWeightsHook.skip is {skip!r}: give a list of names' beginnings, such as "
                '["roi_head.bbox_head."]'
            )
        self.skip = tuple(skip)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put the model's own values in the place of those to skip.

        Raises:
            ValueError: A beginning is that of no parameter or buffer of the model.
        """
        if runner._resume:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        own = {k.removeprefix("module."): v for k, v in model.state_dict().items()}
        for beginning in self.skip:
            if not any(key.startswith(beginning) for key in own):
                raise ValueError(
                    f"PartialWeightsHook.skip: nothing in the model begins with {beginning!r}; it "
                    f"has {', '.join(sorted({k.split('.')[0] + '.' for k in own}))}"
                )
        kept = {
            key: value
            for key, value in checkpoint["state_dict"].items()
            if not key.removeprefix("module.").startswith(self.skip)
        }
        started = {key: value for key, value in own.items() if key.startswith(self.skip)}
        checkpoint["state_dict"] = {**kept, **started}
        runner.logger.info(f"not read from the checkpoint: {len(started)} tensors of {self.skip}")
