"""The one place that knows other packages' breakages.

Every package that imports mmengine, mmcv or mmdet imports this one first:

* `mmcv_ext` answers for `mmcv._ext` where mmcv was installed without compiled ops (mmcv-lite);
* `checkpoint` lets mmengine's checkpoints load with `weights_only=True` on torch >= 2.6.

Neither does anything where the package it mends is missing, so `fgclip-det doctor` can import
this on a half-installed machine.
"""

from . import checkpoint, mmcv_ext
from .checkpoint import load_checkpoint_file
from .safe_pickle import decode_tensor

__all__ = ["decode_tensor", "load_checkpoint_file", "setup"]


def setup() -> None:
    """Install the stand-ins that this environment needs. Runs on import; calling again is free."""
    mmcv_ext.install()
    checkpoint.install()


setup()
