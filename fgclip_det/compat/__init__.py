"""The one place that knows other packages' breakages.

Every package that imports mmengine, mmcv or mmdet imports this one first:

* `mmcv_ext` answers for `mmcv._ext` where mmcv was installed without compiled ops (mmcv-lite);
* `late_modules` keeps costly modules of theirs, which few programs use, from running until used;
* `late_adafactor` has MMEngine import transformers' optimizer when it is asked for;
* `checkpoint` lets mmengine's checkpoints load with `weights_only=True` on torch >= 2.6.

None does anything where the package it mends is missing, so `fgclip-det doctor` can import
this on a half-installed machine.
"""

from . import checkpoint, late_adafactor, late_modules, mmcv_ext
from .checkpoint import load_checkpoint_file
from .safe_pickle import decode_tensor
from .torchvision_ops import box_iou, nms

__all__ = ["box_iou", "decode_tensor", "load_checkpoint_file", "nms", "setup"]


def setup() -> None:
    """Install the stand-ins that this environment needs. Runs on import; calling again is free."""
    late_modules.install()
    late_adafactor.install()
    mmcv_ext.install()
    checkpoint.install()


setup()
