"""The data of a config, checked by the first process for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log
from torch.distributed import ProcessGroup

from fgclip_det.datasets.check.config_sources import sources_of
from fgclip_det.datasets.check.data_check import check_source


def check_training_data(config: Mapping[str, Any], group: ProcessGroup | None = None) -> None:
    """Check all that a training reads, see `check_source`; oddities are logged.

    In a run of several processes the first one checks, and all of them hear the verdict.

    Args:
        config: With ``train_dataloader`` and perhaps ``val_dataloader``.
        group: In which the others wait, as long as its timeout; None is torch's default.

    Raises:
        ValueError: In every process: data cannot be what they claim to be.
    """
    verdict = ["the data check of the first process failed: its error tells why"]
    try:
        if is_main_process():
            verdict = [_verdict(config)]
    finally:
        # Whatever happened: the others are waiting.
        broadcast_object_list(verdict, group=group)
    if verdict[0]:
        raise ValueError(verdict[0])


def _verdict(config: Mapping[str, Any]) -> str:
    """What is wrong, or nothing."""
    try:
        for source in sources_of(config):
            for text in check_source(source):
                print_log(f"data check, {source.ann_file}: {text}", "current")
    except (ValueError, OSError) as error:
        return str(error) or type(error).__name__
    return ""
