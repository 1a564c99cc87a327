"""Where results go: each picture's has a name of its own, whatever others are called."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.apis.inputs import picture_lists
from fgclip_det.cli import main
from fgclip_det.cli.outputs import write_result
from fgclip_det.io import read_json

ROOT = Path(__file__).resolve().parents[1]
PICTURE = sorted((BUNDLED / "images").glob("*.png"))[0]


def demo(*arguments: object) -> int:
    return main(["demo", *map(str, arguments)])


def written(out: Path) -> list[str]:
    return sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())


def told_apart(stem: str, picture: Path) -> str:
    return f"{stem}-{hashlib.sha256(os.path.realpath(picture).encode()).hexdigest()[:8]}"


def image_of(file: Path) -> str:
    return json.loads(file.read_text("utf-8"))["image"]


@pytest.fixture
def two_kinds(tmp_path: Path) -> tuple[Path, Path]:
    """x.png and x.jpg in one folder."""
    png, jpg = tmp_path / "in" / "x.png", tmp_path / "in" / "x.jpg"
    png.parent.mkdir()
    shutil.copy(PICTURE, png)
    Image.open(PICTURE).convert("RGB").save(jpg)
    return png, jpg


def test_a_later_run_keeps_the_result_of_another_picture(
    cached_detector, tmp_path: Path, two_kinds, capsys: pytest.CaptureFixture
) -> None:
    png, jpg = two_kinds
    out = tmp_path / "out"
    for picture in (jpg, png, png, jpg):
        assert demo(picture, "--out-dir", out) == 0
    other = told_apart("x", png)
    names = [f"preds/{other}.json", "preds/x.json", f"vis/{other}.png", "vis/x.png"]
    assert written(out) == names
    assert image_of(out / "preds" / "x.json") == str(jpg)
    assert image_of(out / "preds" / f"{other}.json") == str(png)
    said = capsys.readouterr().err
    assert said.count("note: ") == 2 and f"{other}.json" in said


def test_one_run_of_both(cached_detector, tmp_path: Path, two_kinds) -> None:
    for _ in range(2):
        assert demo(tmp_path / "in", "--batch-size", 2, "--out-dir", tmp_path / "out") == 0
        preds = written(tmp_path / "out" / "preds")
        assert preds == [f"{told_apart('x', two_kinds[0])}.json", "x.json"]


def test_heat_maps_are_kept_too(tmp_path: Path, two_kinds) -> None:
    png, jpg = two_kinds
    for picture in (jpg, png, png, jpg):
        options = ("--texts", "ring", "--device", "cpu", "--out-dir", tmp_path / "out")
        assert main(["heatmap", *map(str, (picture, *options))]) == 0
    other = told_apart("x", png)
    assert written(tmp_path / "out" / "heatmaps") == [
        *(f"{other}.npz", f"{other}.png", "x.npz", "x.png")
    ]
    with np.load(tmp_path / "out" / "heatmaps" / f"{other}.npz") as kept:
        assert str(kept["image"]) == str(png)


def test_relative_paths_of_two_folders_are_two_pictures(
    cached_detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(PICTURE, tmp_path / folder / "x.png")
        monkeypatch.chdir(tmp_path / folder)
        assert demo("x.png", "--no-save-vis", "--out-dir", tmp_path / "out") == 0
    found = {image_of(file) for file in (tmp_path / "out" / "preds").iterdir()}
    assert found == {str(tmp_path / folder / "x.png") for folder in ("a", "b")}


def test_folders_below_a_given_one_are_kept(cached_detector, tmp_path: Path) -> None:
    for name in ("photos/2024/x.png", "photos/2024/a/x.png", "photos/2024/a/b/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PICTURE, tmp_path / name)
    given = tmp_path / "photos" / "2024"
    for _ in range(2):
        # What was written below the pictures is no picture in the second run.
        assert demo(given, given / "a" / "x.png", "--out-dir", given / "out") == 0
        names = ["a/b/x", "a/x", "x"]
        assert written(given / "out") == [
            *(f"preds/{name}.json" for name in names),
            *(f"vis/{name}.png" for name in names),
        ]


def test_files_of_others_are_left_alone(cached_detector, tmp_path: Path, two_kinds) -> None:
    preds = tmp_path / "out" / "preds"
    for content in (b"", b"{", b"[1]", b'{"image": 5}', b'{"image": "\\u0000"}', None):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        preds.mkdir(parents=True)
        if content is None:
            (preds / "x.json").mkdir()
        else:
            (preds / "x.json").write_bytes(content)
        assert demo(two_kinds[0], "--no-save-vis", "--out-dir", tmp_path / "out") == 0
        assert (preds / f"{told_apart('x', two_kinds[0])}.json").is_file()
        assert content is None or (preds / "x.json").read_bytes() == content


ODD = [
    b"\xff\xfe.png",
    b"\x1b[31mred\x1b[0m.png",
    b"line\nend.png",
    "\u202egnp.exe.png".encode(),
    b"x" * 251 + b".png",
    "é".encode() * 125 + b".png",
    b"a\\b'\"$`;|&.png",
    b" .png",
    "\N{SNOWMAN}.png".encode(),
]


def test_odd_names_have_results_and_so_have_their_neighbours(
    cached_detector, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = os.fsencode(tmp_path / "in")
    os.mkdir(folder)
    for name in (*ODD, b"plain.png"):
        shutil.copy(PICTURE, os.path.join(folder, name))
    for command in (demo, lambda *a: main(["heatmap", "--device", "cpu", *map(str, a)])):
        out = tmp_path / "out"
        options = ("--texts", "a blue dotted star", "--out-dir", out)
        assert command(tmp_path / "in", *options) == 0
        printed, said = capsys.readouterr()
        for character in ("\x1b", "\u202e", "\udcff"):
            assert character not in printed + said
        assert printed.count("\n") == printed.count("a blue dotted star") + 1
    files = written(out)
    assert len(files) == 4 * (len(ODD) + 1)
    assert not any("\x1b" in f or "\n" in f or "\u202e" in f or "\udcff" in f for f in files)
    recorded = {image_of(file) for file in (out / "preds").iterdir()}
    assert len(recorded) == len(ODD) + 1
    assert str(tmp_path / "in" / "\\xff\\xfe.png") in recorded


def test_many_writers_of_one_name_lose_nothing(tmp_path: Path) -> None:
    writers, rounds = 8, 5

    def write(number: int) -> None:
        for _ in range(rounds):
            picture = str(tmp_path / str(number) / "x.png")
            data = json.dumps({"image": picture, "filler": "x" * 100_000}).encode()
            write_result(
                tmp_path / "out", "x", ".json", data, picture, lambda p: read_json(p)["image"]
            )

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = sorted(image_of(file) for file in (tmp_path / "out").iterdir())
    assert found == sorted(str(tmp_path / str(number) / "x.png") for number in range(writers))


@pytest.mark.parametrize("earlier", [(), ("--no-save-vis",)])
def test_a_drawing_takes_the_place_of_no_picture(tmp_path: Path, earlier: tuple[str, ...]) -> None:
    """Of no picture that is looked into, and of none that lies where drawings go."""
    for name in ("x.png", "vis/x.png", "vis/y.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(PICTURE, tmp_path / name)
    before = (tmp_path / "x.png").read_bytes()
    if earlier:
        assert demo(tmp_path / "vis" / "x.png", "--out-dir", tmp_path, *earlier) == 0
    for picture in ("vis/x.png", "x.png", "vis/x.png"):
        assert demo(tmp_path / picture, "--out-dir", tmp_path) == 0
        assert all((tmp_path / name).read_bytes() == before for name in ("vis/x.png", "vis/y.png"))
    found = Counter(image_of(file) for file in (tmp_path / "preds").iterdir())
    assert set(found) == {str(tmp_path / "x.png"), str(tmp_path / "vis" / "x.png")}
    drawn = {path.stem for path in (tmp_path / "vis").iterdir()}
    assert len(drawn - {"x", "y"}) == 2


@pytest.mark.slow
def test_two_commands_at_once_lose_nothing(tmp_path: Path) -> None:
    running = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for number in range(10):
            shutil.copy(PICTURE, tmp_path / folder / f"{number}.png")
        command = [sys.executable, "-m", "fgclip_det.cli", "demo", str(tmp_path / folder)]
        options = ["--no-save-vis", "--device", "cpu", "--out-dir", str(tmp_path / "out")]
        running.append(subprocess.Popen([*command, *options], cwd=ROOT))
    assert [one.wait() for one in running] == [0, 0]
    found = {image_of(file) for file in (tmp_path / "out" / "preds").iterdir()}
    assert found == {str(file) for folder in "ab" for file in (tmp_path / folder).iterdir()}


def test_a_result_that_cannot_be_written_is_one_pictures_failure(
    cached_detector, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in ("in/a/x.png", "in/y.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PICTURE, tmp_path / name)
    (tmp_path / "out" / "preds").mkdir(parents=True)
    (tmp_path / "out" / "preds" / "a").touch()
    assert demo(tmp_path / "in", "--out-dir", tmp_path / "out") == 3
    said = capsys.readouterr().err
    (line,) = (line for line in said.splitlines() if line.startswith("error: "))
    assert "x.png" in line and str(tmp_path / "out" / "preds" / "a") in line
    assert "1 of 2 pictures were done" in said
    assert written(tmp_path / "out") == ["preds/a", "preds/y.json", "vis/y.png"]


def test_a_picture_is_decoded_once(
    cached_detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever deletes it once it was read does not end the run."""
    for name in ("a.png", "b.png"):
        shutil.copy(PICTURE, tmp_path / name)
    read = picture_lists.read_image

    def read_and_delete(path: str) -> np.ndarray:
        pixels = read(path)
        os.remove(path)
        return pixels

    monkeypatch.setattr(picture_lists, "read_image", read_and_delete)
    assert demo(tmp_path / "a.png", tmp_path / "b.png", "--out-dir", tmp_path / "out") == 0
    assert len(written(tmp_path / "out")) == 4


def test_a_picture_beyond_memory_is_one_pictures_failure(
    cached_detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    for name in ("a.png", "b.png"):
        shutil.copy(PICTURE, tmp_path / name)
    read = picture_lists.read_image

    def fail(path: str) -> np.ndarray:
        if path.endswith("a.png"):
            raise MemoryError("Unable to allocate 175. GiB")
        return read(path)

    monkeypatch.setattr(picture_lists, "read_image", fail)
    out = tmp_path / "out"
    assert demo(tmp_path / "a.png", tmp_path / "b.png", "--out-dir", out) == 3
    assert "a.png' does not fit into memory" in capsys.readouterr().err
    monkeypatch.setattr(picture_lists, "read_image", read)
    for size in ((1, 1_000_000), (1_000_000, 1)):
        Image.new("L", size).save(tmp_path / "long.png")
        assert demo(tmp_path / "long.png", tmp_path / "b.png", "--out-dir", out) == 3
        said = capsys.readouterr().err
        assert "long.png" in said and "1 of 2 pictures were done" in said
        given = ("heatmap", tmp_path / "long.png", tmp_path / "b.png", "--texts", "a", "--out-dir")
        assert main([*map(str, given), str(out)]) in (0, 3)
        assert (out / "heatmaps" / "b.png").is_file()


def test_rows_tell_pictures_of_one_name_apart(
    cached_detector, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in ("x.png", "a/x.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PICTURE, tmp_path / "in" / name)
    texts = ("--texts", "a blue dotted star")
    assert demo(tmp_path / "in", *texts, "--out-dir", tmp_path / "out") == 0
    rows = {line.split()[0] for line in capsys.readouterr().out.splitlines()[:-1]}
    assert rows == {"x.png", "a/x.png"}
