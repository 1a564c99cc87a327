"""``fgclip-det detect``: what it refuses, in one line, before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fgclip_det.cli import main
from fgclip_det.io import atomic
from tests.test_cli_detect import PICTURE, detect, written


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--score-thr", "1.5"], ("--score-thr", "1.5")),
        (["--score-thr", "nan"], ("--score-thr", "nan")),
        (["--batch-size", "0"], ("--batch-size", "0")),
        (["--tile", "0"], ("--tile", "0")),
        (["--tile", "64", "--overlap", "1"], ("--overlap", "1.0")),
        (["--tile", "64", "--overlap", "nan"], ("--overlap", "nan")),
        (["--overlap", "0.1"], ("--overlap", "--tile")),
        (["--every", "0"], ("--every", "0")),
        (["--weights", "w.pth"], ("--weights", "--model")),
        (["--out-dir", ""], ("--out-dir",)),
        (["--device", "x"], ("device", "'x'")),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_arguments_are_one_line(
    cached_detector,
    arguments: list[str],
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["detect", str(PICTURE), "--texts", "ring", *arguments]) == 2
    printed, said = capsys.readouterr()
    assert printed == "" and said.startswith("error: ") and said.count("\n") == 1
    assert all(word in said for word in words)
    assert not list(tmp_path.iterdir())


def test_missing_pictures_are_refused(cached_detector, tmp_path: Path, capsys) -> None:
    assert detect(PICTURE, tmp_path / "none.png", "--out-dir", tmp_path / "out") == 2
    assert "none.png" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to nothing"])
def test_what_is_no_file_in_the_place_of_the_lines_is_refused(
    cached_detector, tmp_path: Path, capsys, kind: str
) -> None:
    place = tmp_path / "results.jsonl"
    make = {"folder": place.mkdir, "pipe": lambda: os.mkfifo(place)}
    make.get(kind, lambda: place.symlink_to("nothing"))()
    assert detect(PICTURE, "--out-dir", tmp_path) == 2
    assert "results.jsonl" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["results.jsonl"]


def test_a_place_that_the_lines_cannot_be_written_to_is_refused(
    cached_detector, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "preds").mkdir()
    (tmp_path / "vis").mkdir()
    make = atomic._own_file

    def deny(folder: Path):
        if Path(folder) == tmp_path:
            raise PermissionError(13, "Permission denied")
        return make(folder)

    # Root may write anywhere, hence no folder without permission.
    monkeypatch.setattr(atomic, "_own_file", deny)
    assert detect(PICTURE, "--out-dir", tmp_path) == 2
    assert "Permission denied" in capsys.readouterr().err
    assert written(tmp_path) == []


@pytest.mark.parametrize(
    "argv",
    [
        ["detect"],
        ["detect", "x.png", "--texts", "a", "--vocabulary", "b"],
        ["detect", "x.png", "--texts", "a", "--preset", "none"],
        ["detect", "x.png", "--texts", "a", "--preset", "fast", "--model", "c.py"],
        ["detect", "x.png", "--texts", "a", "--labels", "long"],
    ],
)
def test_mistyped_options_exit_with_2(argv: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2 and "error: " in capsys.readouterr().err


def test_something_has_to_be_looked_for(capsys: pytest.CaptureFixture) -> None:
    assert main(["detect", "x.png"]) == 2
    assert "--texts" in (told := capsys.readouterr().err) and "--like" in told
