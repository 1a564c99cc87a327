import os
from pathlib import Path

import pytest
import torch

from fgclip_det.engine.resume.resumable_checkpoints import find_resumable
from tests.messages import says


def _save(path: Path, iteration: int, **changes) -> Path:
    content = {
        "meta": {"epoch": 0, "iter": iteration},
        "message_hub": {},
        "optimizer": {},
        "state_dict": {"w": torch.zeros(8)},
        **changes,
    }
    torch.save({key: value for key, value in content.items() if value is not None}, path)
    os.utime(path, (iteration, iteration))
    return path


def _tear(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_nothing_was_saved(tmp_path):
    assert find_resumable(tmp_path) is None
    assert find_resumable(tmp_path / "absent") is None
    _save(tmp_path / "best_AP50_epoch_1.pth", 1, optimizer=None)
    assert find_resumable(tmp_path) is None


def test_the_named_one_is_taken(tmp_path):
    first, _ = _save(tmp_path / "iter_1.pth", 1), _save(tmp_path / "iter_2.pth", 2)
    (tmp_path / "last_checkpoint").write_text(str(first))
    assert find_resumable(tmp_path) == first
    # Moved with its folder since.
    (tmp_path / "last_checkpoint").write_text("/elsewhere/iter_1.pth")
    assert find_resumable(tmp_path) == first


def test_one_in_another_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    other = _save(tmp_path / "out" / "iter_1.pth", 1)
    (tmp_path / "last_checkpoint").write_text(f"{other}\n")
    assert find_resumable(tmp_path) == other


@pytest.mark.parametrize("named", ["iter_3.pth", "iter_9.pth", "", None])
def test_a_torn_one_is_passed_over(tmp_path, named):
    _save(tmp_path / "iter_1.pth", 1)
    second = _save(tmp_path / "iter_2.pth", 2)
    _tear(_save(tmp_path / "iter_3.pth", 3))
    (tmp_path / "iter_4.pth.partial").write_bytes(b"half")
    if named is not None:
        (tmp_path / "last_checkpoint").write_text(named and str(tmp_path / named))
    assert find_resumable(tmp_path) == second


def test_none_that_can_be_resumed_is_an_error(tmp_path):
    _tear(_save(tmp_path / "iter_2.pth", 2))
    _save(tmp_path / "iter_1.pth", 1, optimizer=None)
    with pytest.raises(
        ValueError, match=says("iter_2.pth", "truncated", "iter_1.pth", "optimizer")
    ):
        find_resumable(tmp_path)
