"""TensorBoard as a place for the log, which says so where its package is missing."""

from __future__ import annotations

import importlib.util

from mmdet.registry import VISBACKENDS
from mmengine.visualization import TensorboardVisBackend as MMEngineTensorboardVisBackend


@VISBACKENDS.register_module(force=True)
class TensorboardVisBackend(MMEngineTensorboardVisBackend):
    """MMEngine's backend of this name, which finds out at once whether it can work.

    MMEngine's finds out when it first writes, with a traceback and advice for PyTorch 1.1.

    Args:
        save_dir: Folder for the event files.

    Raises:
        ValueError: The package ``tensorboard`` is not installed.
    """

    def __init__(self, save_dir: str) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise ValueError(
                "vis_backends names TensorboardVisBackend, but its package is not installed: "
                "pip install tensorboard"
            )
        super().__init__(save_dir)
