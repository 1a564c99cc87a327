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
from fgclip_det.engine.hooks.left_out_hook import LeftOutHook
from fgclip_det.engine.hooks.log_pictures_hook import LogPicturesHook
from fgclip_det.engine.hooks.partial_weights_hook import PartialWeightsHook
from fgclip_det.engine.launch.linked_processes import linked_processes
from fgclip_det.engine.launch.process_group import patient_group
from fgclip_det.engine.launch.restarting import set_checkpoint
from fgclip_det.engine.resume.resumable_checkpoints import find_resumable
from fgclip_det.engine.resume.resumable_runner import ResumableRunner
from fgclip_det.engine.sharding.fully_sharded_model import FullyShardedModel
from fgclip_det.engine.tensorboard_backend import TensorboardVisBackend

__all__ = [
    "AMP_DTYPES",
    "AtomicCheckpointHook",
    "AutocastOptimWrapper",
    "ConfigOptionsAction",
    "ExportEncoderHook",
    "FullyShardedModel",
    "KeepCaptionsHook",
    "LeftOutHook",
    "LogPicturesHook",
    "PartialWeightsHook",
    "ResumableRunner",
    "TensorboardVisBackend",
    "check_checkpoint",
    "check_target",
    "find_resumable",
    "given_path",
    "linked_processes",
    "patient_group",
    "read_config",
    "set_checkpoint",
    "set_launcher",
]
