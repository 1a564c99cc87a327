"""The checkpoints of a work dir that a training run can go on from."""

from __future__ import annotations

import logging
from pathlib import Path

from mmengine.logging import print_log

from fgclip_det.compat import load_checkpoint_file
from fgclip_det.io import listed

# Of MMEngine: a file of the work dir with the path of the checkpoint that was saved last.
LAST_CHECKPOINT = "last_checkpoint"
_NEEDED_TO_RESUME = ("meta", "message_hub", "optimizer")


def find_resumable(work_dir: str | Path) -> Path | None:
    """The checkpoint to go on from: the one saved last, or the newest whole one where it is not.

    Args:
        work_dir: Folder of the run.

    Returns:
        None where no checkpoint was saved yet.

    Raises:
        ValueError: There are checkpoints, and none of them can be gone on from.
    """
    faults = []
    for path in _newest_first(Path(work_dir)):
        try:
            missing = [key for key in _NEEDED_TO_RESUME if key not in load_checkpoint_file(path)]
        except ValueError as error:
            faults.append(str(error))
        else:
            if not missing:
                for fault in faults:
                    print_log(f"passed over: {fault}", logger="current", level=logging.WARNING)
                return path
            faults.append(f"checkpoint {path} holds no {', '.join(missing)}")
    if faults:
        raise ValueError(
            f"no checkpoint in {work_dir} can be resumed: "
            f"{listed(faults, 'broken checkpoints', '; ')}: move them away to train from the start"
        )
    return None


def _newest_first(work_dir: Path) -> list[Path]:
    # Those named best_* hold no optimizer: nobody goes on from them.
    found = [path for path in work_dir.glob("*.pth") if not path.name.startswith("best_")]
    found.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    named = work_dir / LAST_CHECKPOINT
    if named.is_file():
        last = Path(named.read_text(encoding="utf-8").strip())
        # The work dir may have moved since.
        last = last if last.is_file() else work_dir / last.name
        if last.is_file():
            found = [last, *(path for path in found if path.name != last.name)]
    return found
