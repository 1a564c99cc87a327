"""`fgclip-det heatmap` as a user types it: what it writes, and how it refuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.cli import main
from fgclip_det.encoders import FGCLIP
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from tests.messages import says
from tests.tiny_encoders import tiny_fgclip2

PICTURES = sorted((BUNDLED / "images").glob("*.png"))


def heatmap(*arguments: object) -> int:
    return main(["heatmap", "--device", "cpu", *map(str, arguments)])


def written(out: Path) -> list[str]:
    return sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())


def test_shows_the_bundled_pictures(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert heatmap("--out-dir", tmp_path) == 0
    files = [f"heatmaps/{path.stem}.{end}" for path in PICTURES for end in ("npz", "png")]
    assert written(tmp_path) == files
    printed = capsys.readouterr().out
    assert "000006.png                0.93  a blue dotted star  [36, 44]\n" in printed
    assert f"3 text(s) in 3 picture(s); written to {tmp_path}" in printed
    with np.load(tmp_path / "heatmaps" / "000006.npz", allow_pickle=False) as kept:
        assert kept["maps"].shape == (3, 16, 16)
        assert kept["texts"][0] == "a blue dotted star"
        assert kept["peaks"][0].tolist() == [36, 44]
    with Image.open(tmp_path / "heatmaps" / "000006.png") as drawn:
        assert drawn.width > 3 * drawn.height


def test_takes_options_and_words_from_files(tmp_path: Path) -> None:
    texts = TextEmbeddings.encode(
        Vocabulary.parse("ring, star"), FGCLIP.from_pretrained(BUNDLED / "encoder")
    )
    texts.save(tmp_path / "t.safetensors")
    options = ("--image-size", 256, "--box-cells", 1, 9, "--scale", "text", "--out-dir", tmp_path)
    assert heatmap(PICTURES[0], "--vocabulary", tmp_path / "t.safetensors", *options) == 0
    with np.load(tmp_path / "heatmaps" / "000006.npz") as kept:
        assert kept["maps"].shape == (2, 32, 32)
        assert kept["texts"].tolist() == ["ring", "star"]


def test_one_bad_picture_of_three(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "in").mkdir()
    for name in "abc":
        shutil.copy(PICTURES[0], tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "b.png").write_bytes(PICTURES[0].read_bytes()[:3000])
    assert heatmap(tmp_path / "in", "--texts", "ring", "--out-dir", tmp_path / "out") == 3
    stems = [path.split("/")[1] for path in written(tmp_path / "out")]
    assert stems == ["a.npz", "a.png", "c.npz", "c.png"]
    said = capsys.readouterr().err
    assert said.count("error: ") == 1 and "b.png" in said
    assert "2 of 3 pictures were done" in said


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("none.png",), ("'none.png'",)),
        (("{picture}", "--texts", " . "), ("' . '", "give names")),
        (("{picture}", "--texts", "lvis"), ("1203 texts", "1 to 35")),
        (("{picture}", "--image-size", "5"), ("image_size", "5", "from 8 to")),
        (("{picture}", "--box-cells", "4"), ("box_cells", "odd numbers")),
        (("{picture}", "--max-patches", "9"), ("max_patches", "image_size")),
        (
            ("{picture}", "--encoder", "nowhere", "--texts", "a"),
            ("'nowhere'", "directory", "hub id"),
        ),
        (("{picture}", "--encoder", "{encoder2}"), ("what to look for",)),
        (("--encoder", "{encoder2}", "--texts", "a"), ("pictures",)),
        (("{picture}", "--encoder", "{encoder2}", "--texts", "a"), ("tokenizer.json",)),
        (
            ("{picture}", "--encoder", "{encoder2}", "--vocabulary", "{texts}"),
            ("encode the vocabulary again",),
        ),
    ],
)
def test_mistakes_are_one_line_and_leave_no_trace(
    arguments: tuple[str, ...],
    parts: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    own = {name: tmp_path / name for name in ("encoder2", "texts.safetensors")}
    tiny_fgclip2().save_pretrained(own["encoder2"])
    texts = TextEmbeddings(Vocabulary.parse("a"), torch.ones(1, 32), "0" * 16)
    texts.save(own["texts.safetensors"])
    places = {
        "picture": PICTURES[0],
        "encoder2": own["encoder2"],
        "texts": own["texts.safetensors"],
    }
    given = [argument.format(**places) for argument in arguments]
    assert heatmap(*given, "--out-dir", tmp_path / "out") == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and said.err.count("\n") == 1
    assert says(*parts).search(said.err)
    assert not (tmp_path / "out").exists()


def test_places_that_cannot_be_written_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert heatmap(PICTURES[0], "--out-dir", tmp_path / "file") == 2
    assert "is a file, not a folder" in capsys.readouterr().err


def test_a_disk_that_fills_up_leaves_whole_files(
    tmp_path: Path, capsys: pytest.CaptureFixture, fill_disk: Callable[[int], None]
) -> None:
    fill_disk(1)
    assert heatmap(PICTURES[0], "--out-dir", tmp_path) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert not written(tmp_path)
