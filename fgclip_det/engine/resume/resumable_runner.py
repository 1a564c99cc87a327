"""MMEngine's runner, with training that survives being killed."""

from __future__ import annotations

from pathlib import Path

from mmengine.dataset import DefaultSampler
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import DATA_SAMPLERS, HOOKS, LOOPS, RUNNERS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from mmengine.runner.base_loop import BaseLoop
from torch import nn
from torch.utils.data import DataLoader

from fgclip_det.engine.hooks.atomic_checkpoint_hook import AtomicCheckpointHook
from fgclip_det.engine.label_names import check_label_names
from fgclip_det.engine.launch.distributed_runner import DistributedRunner
from fgclip_det.engine.launch.first_process import on_first_process
from fgclip_det.engine.resume.resumable_checkpoints import LAST_CHECKPOINT
from fgclip_det.engine.resume.train_loops import (
    ResumableEpochLoop,
    ResumableIterLoop,
    batches_of_a_process,
)
from fgclip_det.engine.sharding.fully_sharded_model import FullyShardedModel
from fgclip_det.engine.sharding.sharded_checkpoint_hook import ShardedCheckpointHook
from fgclip_det.io import replaced_file

_COMPILED_PARTS = ("backbone", "neck")
_RESUMABLE_LOOPS = {EpochBasedTrainLoop: ResumableEpochLoop, IterBasedTrainLoop: ResumableIterLoop}


@RUNNERS.register_module()
class ResumableRunner(DistributedRunner):
    """A run that is killed and resumed ends with the weights of one that was not.

    On a CPU bit for bit; on CUDA as far as the kernels repeat themselves, which
    ``randomness.deterministic=True`` asks of them. It differs from `DistributedRunner`
    in that

    * its two training loops are replaced by `ResumableEpochLoop` and `ResumableIterLoop`, so that
      every iteration draws its random numbers from the seed and its own number, and so that a run
      goes on at the same sample on another number of processes;
    * validation and test data are dealt to the processes without a sample twice;
    * `CheckpointHook` is replaced by `AtomicCheckpointHook`, and a checkpoint takes its name only
      when all of it is on disk;
    * ``auto_scale_lr`` counts the batches that ``accumulative_counts`` and ``train_cfg.parts``
      gather for one update;
    * ``compile`` compiles the backbone and the neck of a detector, not its matching and sampling,
      which break the graph at each step;
    * it starts nothing where a label has one name in the data and another in the detector
      (`check_label_names`).

    Loops and checkpoint hooks of other classes are taken as they are.
    """

    _sharded_checkpoints: ShardedCheckpointHook | None = None

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the training loop of a config."""
        if isinstance(loop, dict) and isinstance(self._train_dataloader, dict):
            config = dict(loop)
            if "by_epoch" in config and "type" not in config:
                by_epoch = config.pop("by_epoch")
                config["type"] = "EpochBasedTrainLoop" if by_epoch else "IterBasedTrainLoop"
            kind = config.get("type")
            kind = LOOPS.get(kind) if isinstance(kind, str) else kind
            if kind in _RESUMABLE_LOOPS:
                loop = {**config, "type": _RESUMABLE_LOOPS[kind]}
        built = super().build_train_loop(loop)
        if not isinstance(built, tuple(_RESUMABLE_LOOPS.values())):
            self.logger.warning(
                f"a {type(built).__name__} may not resume to the same weights: give train_cfg one "
                "of MMEngine's loops, and train_dataloader as a config"
            )
        self._check_labels(built, training=True)
        return built

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the validation loop of a config."""
        self._val_dataloader = _without_padding(self._val_dataloader)
        built = super().build_val_loop(loop)
        self._check_labels(built, training=False)
        return built

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the test loop of a config."""
        self._test_dataloader = _without_padding(self._test_dataloader)
        built = super().build_test_loop(loop)
        self._check_labels(built, training=False)
        return built

    def build_optim_wrapper(
        self, optim_wrapper: dict | OptimWrapper | OptimWrapperDict
    ) -> OptimWrapper | OptimWrapperDict:
        """Build the optimizer's wrapper of a config.

        Raises:
            ValueError: ``accumulative_counts`` is no number of batches.
        """
        config = optim_wrapper if isinstance(optim_wrapper, dict) else {}
        counts = config.get("accumulative_counts", 1)
        if not isinstance(counts, int) or counts < 1:
            raise ValueError(
                f"optim_wrapper.accumulative_counts is {counts!r}: give a whole number from 1, the "
                "batches of one update"
            )
        return super().build_optim_wrapper(optim_wrapper)

    def _check_labels(self, loop: BaseLoop, training: bool) -> None:
        model = self.model.module if is_model_wrapper(self.model) else self.model
        # A loop that reads its data itself, as `EncoderEvaluationLoop`, has an empty list here.
        if isinstance(loop.dataloader, DataLoader):
            check_label_names(model, loop.dataloader.dataset, training)

    def register_default_hooks(self, hooks: dict[str, Hook | dict | None] | None = None) -> None:
        """Register MMEngine's default hooks and those of a config."""
        replaced = {"checkpoint": dict(type="CheckpointHook", interval=1), **(hooks or {})}
        for name, hook in replaced.items():
            if isinstance(hook, dict):
                kind = hook.get("type")
                kind = HOOKS.get(kind) if isinstance(kind, str) else kind
                if kind is CheckpointHook:
                    replaced[name] = {**hook, "type": AtomicCheckpointHook}
        super().register_default_hooks(replaced)
        if isinstance(self.model, FullyShardedModel):
            self._sharded_checkpoints = ShardedCheckpointHook()
            self.register_hook(self._sharded_checkpoints)

    def scale_lr(
        self,
        optim_wrapper: OptimWrapper | OptimWrapperDict,
        auto_scale_lr: dict | None = None,
    ) -> None:
        """Scale the learning rates by what one update sees, over ``base_batch_size``.

        An update sees the batches of each process, ``accumulative_counts`` times.

        Args:
            optim_wrapper: Its optimizers' learning rates are changed.
            auto_scale_lr: ``enable`` and ``base_batch_size``.

        Raises:
            ValueError: It is enabled and has no ``base_batch_size``.
        """
        if not (auto_scale_lr or {}).get("enable", False):
            return
        base = auto_scale_lr.get("base_batch_size")
        if not base:
            raise ValueError(
                "auto_scale_lr needs base_batch_size, the images an update that the rate is for"
            )
        is_dict = isinstance(optim_wrapper, OptimWrapperDict)
        for wrapper in optim_wrapper.values() if is_dict else [optim_wrapper]:
            # The parent divides the batch of all processes by the base.
            counts = wrapper._accumulative_counts * batches_of_a_process(self._train_loop)
            super().scale_lr(wrapper, {"enable": True, "base_batch_size": base / counts})
            if counts > 1:
                self.logger.info(
                    f"{counts} batches are accumulated for one update: a base of {base} images an "
                    f"update is one of {base / counts:g} images a batch"
                )

    def _maybe_compile(self, target: str) -> None:
        options = self.cfg.get("compile", None)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        parts = [getattr(model, name, None) for name in _COMPILED_PARTS]
        if not options or not all(isinstance(part, nn.Module) for part in parts):
            super()._maybe_compile(target)
            return
        if not isinstance(options, bool | dict):
            raise ValueError(
                f"compile must be True, False or arguments of torch.compile: {options!r}"
            )
        for part in parts:
            part.compile(**(options if isinstance(options, dict) else {}))
        self.logger.info(f"{' and '.join(_COMPILED_PARTS)} are compiled: the first steps are slow")

    def _init_model_weights(self) -> None:
        # A sharded model did so before it was sharded; parts of weights cannot be drawn.
        if not isinstance(self.model, FullyShardedModel):
            super()._init_model_weights()

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        """Save a checkpoint; a local one takes its name when all of it is on disk.

        All processes call this: what is sharded is gathered, the first one writes, and the others
        hear whether it could.

        Args:
            out_dir: Folder, or a URL.
            filename: Name in the folder.
            file_client_args: MMEngine's, outdated.
            save_optimizer: Whether it holds the optimizer.
            save_param_scheduler: Whether it holds the schedules.
            meta: ``epoch`` and ``iter`` to go on from, and more.
            by_epoch: Whether an epoch ends here.
            backend_args: MMEngine's, for URLs.

        Raises:
            OSError: It cannot be written; earlier ones are as they were.
            OtherProcessError: In the other processes, for that reason.
        """
        if self._sharded_checkpoints is not None:
            self._sharded_checkpoints.gather(self, save_optimizer)
        arguments = (file_client_args, save_optimizer, save_param_scheduler, meta, by_epoch)

        def save() -> None:
            save_checkpoint = super(ResumableRunner, self).save_checkpoint
            if "://" in str(out_dir):
                save_checkpoint(out_dir, filename, *arguments, backend_args)
                return
            path = Path(out_dir) / filename
            try:
                with replaced_file(path) as partial:
                    save_checkpoint(out_dir, partial.name, *arguments, backend_args)
            except OSError as error:
                explained = _explain_unsaved(path, self.work_dir, error)
                raise OSError(error.errno, explained) from error

        on_first_process(save)


def _without_padding(dataloader: DataLoader | dict | None) -> DataLoader | dict | None:
    """The data loader of an evaluation, with MMEngine's sampler told to give no row twice."""
    sampler = dataloader.get("sampler") if isinstance(dataloader, dict) else None
    if not isinstance(sampler, dict):
        return dataloader
    kind = sampler.get("type")
    kind = DATA_SAMPLERS.get(kind) if isinstance(kind, str) else kind
    if kind is not DefaultSampler:
        return dataloader
    return {**dataloader, "sampler": {"round_up": False, **sampler}}


def _explain_unsaved(path: Path, work_dir: str, error: OSError) -> str:
    named = Path(work_dir) / LAST_CHECKPOINT
    last = named.read_text(encoding="utf-8").strip() if named.is_file() else None
    left = (
        f"{last} is whole: make room and go on with --resume"
        if last
        else "no earlier one: make room"
    )
    return f"checkpoint {path} was not saved ({error.strerror or error}); {left}"
