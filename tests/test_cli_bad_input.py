"""What a user gets wrong: one line that says what and how to mend it, exit code 2, no half work."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.cli import main

PICTURE = sorted((BUNDLED / "images").glob("*.png"))[0]
STEM = PICTURE.stem


def demo(*arguments: object) -> int:
    return main(["demo", *map(str, arguments)])


def assert_refused(
    capsys: pytest.CaptureFixture, out: Path, *arguments: object, words: tuple[str, ...]
) -> None:
    """Exit code 2, one line that holds `words`, and no trace on disk."""
    before = sorted(out.parent.rglob("*"))
    assert demo(*arguments, "--out-dir", out) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    for word in words:
        assert str(word) in said.err
    assert sorted(out.parent.rglob("*")) == before


def written(out: Path) -> list[str]:
    return sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())


def test_one_bad_picture_of_twenty(
    cached_detector, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "in").mkdir()
    for i in range(20):
        shutil.copy(PICTURE, tmp_path / "in" / f"{i:02}.png")
    bad = tmp_path / "in" / "07.png"
    bad.write_bytes(bad.read_bytes()[:3000])
    assert demo(tmp_path / "in", "--batch-size", 8, "--out-dir", tmp_path / "out") == 3
    done = [f"{i:02}" for i in range(20) if i != 7]
    assert written(tmp_path / "out") == [
        *(f"preds/{stem}.json" for stem in done),
        *(f"vis/{stem}.png" for stem in done),
    ]
    said = capsys.readouterr().err
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert str(bad) in errors[0] and "copy it again" in errors[0]
    assert "19 of 20 pictures were done" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ("is empty", "copy it again")),
        (PICTURE.read_bytes()[:3000], ("truncated", "copy it again")),
        (b"<html>Not found</html>", ("not a picture", "PNG or JPEG")),
    ],
    ids=["empty", "truncated", "no picture"],
)
def test_broken_pictures_are_reported(
    cached_detector,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    content: bytes,
    words: tuple[str, str],
) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    assert demo(path, "--out-dir", tmp_path / "out") == 2
    said = capsys.readouterr()
    assert said.err.splitlines()[0].startswith(f"error: {'picture ' if words[0][0] != 'n' else ''}")
    for word in (str(path), *words):
        assert word in said.err.splitlines()[0]
    assert "0 of 1 pictures were done" in said.err
    assert not (tmp_path / "out").exists()


def test_missing_pictures_are_refused(
    cached_detector, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    missing = tmp_path / "none.png"
    assert_refused(capsys, out, PICTURE, missing, words=(missing, "check the path"))
    assert_refused(capsys, out, tmp_path / "empty", words=("empty", "holds no picture"))


@pytest.mark.parametrize("texts", ["", "   ", " . , ;", "\n"])
def test_texts_that_name_nothing_are_refused(
    cached_detector, tmp_path: Path, capsys: pytest.CaptureFixture, texts: str
) -> None:
    words = ("names nothing", "give names")
    assert_refused(capsys, tmp_path / "out", PICTURE, "--texts", texts, words=words)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("v.json", '{"names": ["a"', ("v.json", "JSON", "line 1")),
        ("v.json", "", ("v.json", "JSON")),
        ("v.json", "5", ("v.json", "a list of names")),
        ("v.json", '{"names": 5}', ('"names"', "a list or an object")),
        ("v.json", '{"names": ["a"], "templates": 5}', ("templates", "5")),
        ("v.json", '{"names": ["a"], "groups": {"base": ["b"]}}', ("'b'", "'base'")),
        ("v.json", "[[[5]]]", ("must be a string",)),
        ("v.txt", "# nothing\n\n", ("give names",)),
        ("v.txt", "\udcff\udcfe\x00", ("v.txt", "cannot be read")),
        ("v.safetensors", "{}", ("v.safetensors", "cannot be read")),
    ],
)
def test_bad_vocabulary_files_are_refused(
    cached_detector,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    name: str,
    content: str,
    words: tuple[str, ...],
) -> None:
    file = tmp_path / name
    file.write_text(content, encoding="utf-8", errors="surrogateescape")
    assert_refused(capsys, tmp_path / "out", PICTURE, "--vocabulary", file, words=words)


def test_a_missing_vocabulary_file_is_refused(
    cached_detector, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for option in ("--vocabulary", "--texts"):
        file = tmp_path / "none.txt"
        words = (file, "check the path")
        assert_refused(capsys, tmp_path / "out", PICTURE, option, file, words=words)


def test_settings_out_of_range_are_refused(
    cached_detector, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    for option, value in (("--score-thr", 1.5), ("--score-thr", "nan"), ("--batch-size", 0)):
        words = (option, value, "must be")
        assert_refused(capsys, out, PICTURE, option, value, words=words)


def test_cuda_without_cuda_is_refused(
    cached_detector, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "out"
    words = ("'cuda'", "finds no CUDA", "use cpu")
    assert_refused(capsys, out, PICTURE, "--device", "cuda", words=words)
    assert_refused(capsys, out, PICTURE, "--device", "tpu", words=("'tpu'", "use"))


def test_places_that_cannot_be_written_are_refused(
    cached_detector, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    words = (file, "is a file, not a folder", "name another")
    assert_refused(capsys, file / "out", PICTURE, words=words)
    assert_refused(capsys, file, PICTURE, words=words)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "vis").touch()
    words = ("vis", "is a file, not a folder")
    assert_refused(capsys, tmp_path / "taken", PICTURE, words=words)
    assert_refused(capsys, tmp_path / ("x" * 300), PICTURE, words=("name another",))

    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    # Root may write anywhere, hence no folder without permission.
    monkeypatch.setattr("fgclip_det.io.atomic._own_file", deny)
    words = ("Permission denied", "name another")
    assert_refused(capsys, tmp_path / "out", PICTURE, words=words)


def test_a_disk_that_fills_up_leaves_whole_files(
    cached_detector, tmp_path: Path, capsys: pytest.CaptureFixture, fill_disk: Callable[[int], None]
) -> None:
    fill_disk(1)
    assert demo(PICTURE, "--out-dir", tmp_path) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert PICTURE.name in said and "No space left on device" in said
    # Neither a part of the drawing nor a result without one.
    assert not written(tmp_path)


def test_models_that_do_not_fit_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out, config, weights = tmp_path / "out", BUNDLED / "config.py", BUNDLED / "detector.pth"
    ask = (PICTURE, "--texts", "ring")
    assert_refused(capsys, out, *ask, "--model", "none.py", words=("none.py", "check the path"))
    assert_refused(capsys, out, *ask, "--model", config, words=(config, "give weights"))
    assert_refused(capsys, out, *ask, "--weights", weights, words=("give its config",))
    assert_refused(capsys, out, "--model", config, words=("name the pictures",))
    assert_refused(capsys, out, PICTURE, "--model", config, words=("say what to look for",))
    own = tmp_path / "own.py"
    text = config.read_text().replace("vocabulary='vocabulary.json'", "vocabulary='ring, star'")
    own.write_text(text)
    (tmp_path / "bad.pth").write_bytes(weights.read_bytes()[:-5000])
    ask = (*ask, "--encoder", BUNDLED / "encoder", "--model", own, "--weights")
    assert_refused(capsys, out, *ask, tmp_path / "bad.pth", words=("bad.pth", "truncated"))
    kind = BUNDLED / "encoder" / "model.safetensors"
    assert_refused(capsys, out, *ask, kind, words=(kind, "give the one trained with it"))
