"""What is never replaced, and what an interrupt leaves."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from fgclip_det.io import replaced_folder, write_bytes


def test_a_pipe_or_a_device_is_never_replaced(tmp_path: Path) -> None:
    """The superuser's new file would take the place of /dev/null, for all programs."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="a device or a pipe stands there"):
        write_bytes(tmp_path / "pipe", b"content")
    assert stat.S_ISFIFO((tmp_path / "pipe").lstat().st_mode)
    with pytest.raises(OSError, match="a device or a pipe stands there"):
        write_bytes("/dev/null", b"content")
    assert stat.S_ISCHR(os.lstat("/dev/null").st_mode)


@pytest.mark.parametrize("made", ["file", "folder"])
def test_ctrl_c_leaves_nothing_as_soon_as_something_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str
) -> None:
    real = getattr(os, "open" if made == "file" else "mkdir")

    def interrupted(*args, **options):
        done = real(*args, **options)
        if done is not None:
            os.close(done)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "open" if made == "file" else "mkdir", interrupted)
    with pytest.raises(KeyboardInterrupt):
        if made == "file":
            write_bytes(tmp_path / "file", b"content")
        else:
            with replaced_folder(tmp_path / "folder"):
                pass
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())
