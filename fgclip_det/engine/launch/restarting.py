"""The checkpoint that a training run goes on from, one that torchrun starts again among them."""

from __future__ import annotations

import os

from mmengine.config import Config

from fgclip_det.engine.command_line import check_checkpoint
from fgclip_det.engine.resume.resumable_checkpoints import find_resumable


def set_checkpoint(config: Config, resume: str | None) -> None:
    """Set ``resume`` and ``load_from`` of a config, and check what they name.

    Where torchrun may start the run again (``--max-restarts``), it goes on from the last checkpoint
    of its work dir, at the first start too: one that is killed at once would else go on from what a
    former run left there.

    Args:
        config: With ``work_dir``, and perhaps ``resume`` and ``load_from`` of its own.
        resume: A checkpoint, "auto" for the last one of the work dir, or None.

    Raises:
        ValueError: There is no such checkpoint, or none that is whole.
    """
    names = ("TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS")
    is_again, may_be_again = (int(os.environ.get(name, 0)) > 0 for name in names)
    is_auto = resume == "auto" or (config.get("resume") and not config.get("load_from"))
    is_auto = is_auto or is_again or (may_be_again and resume is None)
    # Killed before it saved anything, a run starts as it first did.
    last = find_resumable(config.work_dir) if is_auto else None
    if last is not None:
        config.resume, config.load_from = True, str(last)
    elif resume not in (None, "auto"):
        config.resume, config.load_from = True, resume
    elif is_auto:
        config.resume = False
    check_checkpoint(config.get("load_from"))
