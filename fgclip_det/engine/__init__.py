"""MMEngine's part: the runner of training, its loops, hooks and wrappers."""

from fgclip_det import compat  # noqa: F401  (first: mends what the next imports need)
from fgclip_det.engine.autocast_optim_wrapper import AMP_DTYPES, AutocastOptimWrapper
from fgclip_det.engine.command_line import (
    ConfigOptionsAction,
    check_checkpoint,
    check_target,
    given_path,
    read_config,
    set_launcher,
)
from fgclip_det.engine.hooks.atomic_checkpoint_hook import AtomicCheckpointHook
from fgclip_det.engine.hooks.export_encoder_hook import ExportEncoderHook
from fgclip_det.engine.hooks.keep_captions_hook import KeepCaptionsHook
from fgclip_det.engine.hooks.log_pictures_hook import LogPicturesHook
from fgclip_det.engine.hooks.partial_weights_hook import PartialWeightsHook
from fgclip_det.engine.resume.resumable_checkpoints import find_resumable
from fgclip_det.engine.resume.resumable_runner import ResumableRunner
from fgclip_det.engine.tensorboard_backend import TensorboardVisBackend

__all__ = [
    "AMP_DTYPES",
    "AtomicCheckpointHook",
    "AutocastOptimWrapper",
    "ConfigOptionsAction",
    "ExportEncoderHook",
    "KeepCaptionsHook",
    "LogPicturesHook",
    "PartialWeightsHook",
    "ResumableRunner",
    "TensorboardVisBackend",
    "check_checkpoint",
    "check_target",
    "find_resumable",
    "given_path",
    "read_config",
    "set_launcher",
]
