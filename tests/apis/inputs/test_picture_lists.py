"""The pictures that a user means, in folders and out of them, and the names of what is made."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from fgclip_det.apis.inputs.picture_lists import (
    animation_frames,
    each_picture,
    find_images,
    list_pictures,
    name_of,
    named_images,
    to_pixels,
)


def test_finds_pictures_in_folders_sorted(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"?")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in find_images(tmp_path)] == ["a.jpg", "b.PNG"]
    assert find_images([tmp_path / "b.PNG", tmp_path])[0].name == "b.PNG"


@pytest.mark.parametrize("name", ["none.png", "empty", "x" * 5000, "a\0b.png"])
def test_finding_says_what_is_wrong(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"check the path|holds no picture"):
        find_images(tmp_path / name)


def test_finding_needs_a_path() -> None:
    with pytest.raises(ValueError, match="name files or folders"):
        find_images([])


def test_finds_pictures_below_folders(tmp_path: Path) -> None:
    names = ("b/y.png", "a.jpg", "b/c/z.png", "b/.hidden/x.png", ".git/x.png", "vis/x.png")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"?")
    (tmp_path / "b" / "around").symlink_to(tmp_path)
    named = named_images([tmp_path, tmp_path / "b" / "y.png"], without=[tmp_path / "vis"])
    assert list(named.items()) == [
        (str(tmp_path / "a.jpg"), "a"),
        (str(tmp_path / "b" / "y.png"), "b/y"),
        (str(tmp_path / "b" / "c" / "z.png"), "b/c/z"),
    ]
    assert named_images([tmp_path / "b" / "y.png"]) == {str(tmp_path / "b" / "y.png"): "y"}
    assert len(find_images(tmp_path)) == 4


def test_drawings_of_an_earlier_run_are_no_pictures(tmp_path: Path) -> None:
    drawn = ("out/vis/a.png", "out/vis/b/c.png", "out/heatmaps/a.png")
    for name in ("a.png", "b/c.png", "b/vis/own.png", "heatmaps/own.png", *drawn):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"?")
    (tmp_path / "out" / "preds").mkdir()
    (tmp_path / "out" / "heatmaps" / "a.npz").write_bytes(b"?")
    with pytest.warns(UserWarning) as told:
        found = find_images(tmp_path)
    own = ["a.png", "b/c.png", "b/vis/own.png", "heatmaps/own.png"]
    assert [str(path.relative_to(tmp_path)) for path in found] == own
    skipped = [str(warning.message).partition(" holds")[0] for warning in told]
    assert skipped == [repr(str(tmp_path / "out" / name)) for name in ("heatmaps", "vis")]
    assert [path.name for path in find_images(tmp_path / "out" / "vis")] == ["a.png", "c.png"]


def test_a_long_list_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time to the first picture grows with the number of pictures, not with its square."""
    count = 20_000
    for number in range(count):
        os.close(os.open(tmp_path / f"{number:05}.png", os.O_CREAT | os.O_WRONLY))
    calls = Counter()

    def counted(name: str):
        real = getattr(os, name)

        def call(*args, **options):
            calls[name] += 1
            return real(*args, **options)

        monkeypatch.setattr(os, name, call)

    for name in ("stat", "lstat", "scandir", "readlink", "listdir"):
        counted(name)
    before = time.process_time()
    named = named_images([tmp_path])
    pictures = list_pictures(list(named))
    used = time.process_time() - before
    assert len(named) == len(pictures) == count
    assert sum(calls.values()) < 1.1 * count, calls
    assert used < 5, "0.2 s where it was written"


def test_a_pillow_image_is_taken_as_its_file_is_shown(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as opened:
        given = to_pixels(opened)
    np.testing.assert_array_equal(given, to_pixels(tmp_path / "turned.png"))
    np.testing.assert_array_equal(given, np.rot90(pixels, -1))


def test_a_pillow_image_of_a_broken_file_is_named_so(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((200, 300, 3), np.uint8)).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:700])
    with Image.open(tmp_path / "cut.jpg") as opened, pytest.raises(ValueError, match="truncated"):
        to_pixels(opened)


def test_an_animation_is_its_first_frame_or_each(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (9, 6), color) for color in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:], duration=50)
    named = list(animation_frames(tmp_path / "x.gif"))
    assert [name_of(one) for one in named] == [f"{tmp_path}/x.gif#000{n}" for n in (1, 2, 3)]
    assert [one.pixels[0, 0].argmax() for one in named] == [0, 1, 2]
    np.testing.assert_array_equal(to_pixels(tmp_path / "x.gif"), named[0].pixels)


@pytest.mark.parametrize(
    ("tensor", "mend"),
    [
        (torch.zeros(4, 5, 3), r"permute\(2, 0, 1\)"),
        (torch.full((3, 4, 5), 200.0), "divide by 255"),
        (torch.full((3, 4, 5), float("nan")), "normalisation"),
        (torch.zeros(3, 4, 5, dtype=torch.int64), "convert it"),
        (torch.zeros(3, 0, 5), "reshape it"),
    ],
)
def test_tensors_of_other_kinds_are_refused(tensor: torch.Tensor, mend: str) -> None:
    with pytest.raises(ValueError, match=mend):
        to_pixels(tensor)


def test_a_batch_of_tensors_is_several() -> None:
    assert len(list_pictures(torch.zeros(4, 3, 5, 6))) == 4
    assert to_pixels(torch.ones(3, 5, 6, dtype=torch.float16)).tolist() == [[[255] * 3] * 6] * 5


def test_an_iterator_is_read_one_at_a_time(tmp_path: Path) -> None:
    taken = iter([tmp_path / "none.png", np.zeros((2, 2, 3), np.uint8)])
    pictures = each_picture(taken)
    # Whoever reads it says that it is missing, and may go on.
    assert next(pictures) == tmp_path / "none.png"
    assert len(list(taken)) == 1
    with pytest.raises(ValueError, match="no pictures were given"):
        next(each_picture(iter([])))


def test_links_and_pipes_end_no_listing(tmp_path: Path) -> None:
    for name, target in (("itself", "itself.png"), ("nowhere", "none"), ("folder", ".")):
        (tmp_path / f"{name}.png").symlink_to(target)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "x.png").write_bytes(b"?")
    found = [path.name for path in find_images(tmp_path)]
    assert found == ["itself.png", "nowhere.png", "pipe.png", "x.png"]
    # What was listed may be listed again, by whoever reads it.
    assert [Path(path).name for path in list_pictures(find_images(tmp_path))] == found
