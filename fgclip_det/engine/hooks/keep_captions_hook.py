"""Captions of a test are encoded at once, and kept."""

from __future__ import annotations

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner


@HOOKS.register_module()
class KeepCaptionsHook(Hook):
    """Before a test, encodes the captions of its data set where the detector keeps such work.

    A detector would encode them picture by picture, and forget them with the process: its
    ``text_cache_dir`` holds one file for each list of texts. Without that folder, and for data
    without ``captions`` in their ``metainfo``, nothing is done.
    """

    def before_test(self, runner: Runner) -> None:
        """After the weights are loaded, on which the embeddings may depend."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        folder = getattr(model, "text_cache_dir", None)
        captions = runner.test_dataloader.dataset.metainfo.get("captions")
        if folder is not None and captions:
            model.captions.add(captions, cache_dir=folder)
