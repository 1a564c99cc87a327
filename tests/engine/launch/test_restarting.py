"""Where a run goes on, the first time and when torchrun starts it again."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from fgclip_det.engine.launch import restarting
from fgclip_det.engine.launch.restarting import set_checkpoint

LAST = Path("run/epoch_2.pth")


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch):
    """Sets the number of this start, how many there may be, and the last checkpoint."""
    monkeypatch.setattr(restarting, "check_checkpoint", lambda path: None)

    def starts(number: int, most: int, last: Path | None) -> None:
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(number))
        monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", str(most))
        monkeypatch.setattr(restarting, "find_resumable", lambda work_dir: last)

    return starts


@pytest.mark.parametrize(
    ("number", "most", "last", "given", "resume", "expected"),
    [
        # As it was without torchrun.
        (0, 0, LAST, {}, None, (False, None)),
        (0, 0, LAST, {}, "auto", (True, str(LAST))),
        (0, 0, None, {"load_from": "a.pth"}, "auto", (False, "a.pth")),
        (0, 0, LAST, {}, "a.pth", (True, "a.pth")),
        (0, 0, LAST, {"resume": True}, None, (True, str(LAST))),
        (0, 0, LAST, {"resume": True, "load_from": "a.pth"}, None, (True, "a.pth")),
        # A run that may be started again.
        (0, 3, LAST, {}, None, (True, str(LAST))),
        (0, 3, None, {"load_from": "a.pth"}, None, (False, "a.pth")),
        (0, 3, LAST, {}, "a.pth", (True, "a.pth")),
        # One that is.
        (1, 3, LAST, {}, "a.pth", (True, str(LAST))),
        (1, 3, LAST, {"resume": True, "load_from": "a.pth"}, None, (True, str(LAST))),
        (1, 3, None, {}, "a.pth", (True, "a.pth")),
        (1, 3, None, {"load_from": "a.pth"}, None, (False, "a.pth")),
    ],
)
def test_checkpoints(
    number: int,
    most: int,
    last: Path | None,
    given: dict,
    resume: str | None,
    expected: tuple,
    starts,
) -> None:
    starts(number, most, last)
    config = Config({"work_dir": "run", "resume": False, "load_from": None, **given})
    set_checkpoint(config, resume)
    assert (config.resume, config.load_from) == expected
