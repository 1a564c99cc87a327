"""A run, cut off and gone on with."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgclip_det.apis.labelling.run import LINES, label_folder
from tests.apis.labelling.stub import StubDetector


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Five pictures, one of them deeper."""
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.png", "d.png", "deep/a.png"):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_all_pictures_have_labels(pictures: Path, out: Path) -> None:
    labels = label_folder(StubDetector("cat. dog"), pictures, out, batch_size=2, progress=False)
    files = [one.file for one in labels.pictures]
    assert files == ["a.png", "b.png", "c.png", "d.png", "deep/a.png"]
    first = labels.pictures[0]
    assert (first.width, first.height) == (30, 20)
    assert [(one.name, one.box) for one in first.labels] == [(0, (2.0, 3.0, 12.0, 13.0))]
    assert first.labels[0].score == pytest.approx(0.9)
    assert not labels.failures and not labels.notes


def test_thresholds_sides_and_doubles(pictures: Path, out: Path) -> None:
    rows = (
        (0, 0.9, (2, 3, 12, 13)),
        (1, 0.8, (2, 3, 12, 12)),  # the same object under another name
        (1, 0.5, (15, 3, 25, 13)),  # below the threshold of its name
        (0, 0.5, (15, 3, 25, 13)),
        (0, 0.6, (28, -5, 40, 10)),  # reaches outside
        (0, 0.7, (29.5, 0, 40, 10)),  # half a pixel is inside
    )
    detector = StubDetector("cat. dog", rows)
    labels = label_folder(detector, pictures, out, thresholds={"dog": 0.7}, progress=False)
    found = [(one.name, one.box) for one in labels.pictures[0].labels]
    assert found == [(0, (2, 3, 12, 13)), (0, (28, 0, 30, 10)), (0, (15, 3, 25, 13))]


def test_nothing_found_is_a_picture_without_labels(pictures: Path, out: Path) -> None:
    labels = label_folder(StubDetector("cat", ()), pictures, out, progress=False)
    assert [len(one.labels) for one in labels.pictures] == [0] * 5


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_run_that_was_cut_off_goes_on(pictures: Path, out: Path, batch_size: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        label_folder(
            StubDetector("cat", stop_after=3), pictures, out, batch_size=batch_size, progress=False
        )
    # As a kill within a line leaves it.
    with (out / LINES).open("ab") as stream:
        stream.write(b'{"file": "d.p')
    second = StubDetector("cat")
    labels = label_folder(second, pictures, out, progress=False)
    assert second.seen == ["d.png", "a.png"] if batch_size == 1 else ["c.png", "d.png", "a.png"]
    assert len(labels.pictures) == 5
    third = StubDetector("cat")
    assert label_folder(third, pictures, out, progress=False).pictures == labels.pictures
    assert third.seen == []


def test_changed_new_and_removed_pictures_are_found(pictures: Path, out: Path) -> None:
    label_folder(StubDetector("cat"), pictures, out, progress=False)
    before = os.stat(pictures / "b.png")
    Image.new("RGB", (64, 48)).save(pictures / "b.png")
    os.utime(pictures / "b.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    Image.new("RGB", (8, 9)).save(pictures / "e.png")
    (pictures / "c.png").unlink()
    detector = StubDetector("cat")
    labels = label_folder(detector, pictures, out, progress=False)
    assert detector.seen == ["b.png", "e.png"]
    sizes = {one.file: (one.width, one.height) for one in labels.pictures}
    assert sizes["b.png"] == (64, 48) and sizes["e.png"] == (8, 9) and "c.png" not in sizes
    assert len(labels.notes) == 1 and "'b.png' was changed" in labels.notes[0]
    again = label_folder(StubDetector("cat"), pictures, out, progress=False)
    assert again.pictures == labels.pictures and not again.notes


@pytest.mark.parametrize(
    ("texts", "options", "hash_", "told"),
    [
        ("cat. dog", {}, "00", "names"),
        ({"cat": ["a tabby"]}, {}, "00", "words"),
        ("cat", {"score_thr": 0.4}, "00", "thresholds"),
        ("cat", {"iou_threshold": 0.5}, "00", "IoU of one object"),
        ("cat", {}, "11", "detector"),
    ],
)
def test_another_run_is_refused(
    pictures: Path, out: Path, texts, options: dict, hash_: str, told: str
) -> None:
    label_folder(StubDetector("cat"), pictures, out, progress=False)
    kept = (out / LINES).read_bytes()
    detector = StubDetector(texts)
    detector.weights_hash = hash_
    with pytest.raises(ValueError, match=f"begun with other .*{told}.*name another"):
        label_folder(detector, pictures, out, progress=False, **options)
    assert (out / LINES).read_bytes() == kept and detector.seen == []


def test_other_names_that_compete_unseen_are_refused(pictures: Path, out: Path) -> None:
    def label(**competing: object) -> None:
        detector = StubDetector("cat")
        detector.competing = {**detector.competing, **competing}
        label_folder(detector, pictures, out, progress=False)

    label(auto={"bank": "1", "max_cosine": 0.9})
    label(auto={"bank": "1", "max_cosine": 0.9})
    others = ({"bank": "1", "max_cosine": 0.8}, {"bank": "2", "max_cosine": 0.9}, None)
    for other in others:
        with pytest.raises(ValueError, match="begun with other negatives and calibration"):
            label(auto=other)
    for more in ({"own": "3"}, {"calibration": "4"}):
        with pytest.raises(ValueError, match="begun with other negatives and calibration"):
            label(auto={"bank": "1", "max_cosine": 0.9}, **more)


def test_pictures_that_fail_are_listed(pictures: Path, out: Path) -> None:
    (pictures / "b.png").write_bytes(b"no picture")
    (pictures / "c.png").write_bytes((pictures / "c.png").read_bytes()[:200])
    Image.new("RGB", (9, 9)).save(os.fsencode(pictures) + b"/\xff.png")
    labels = label_folder(StubDetector("cat"), pictures, out, batch_size=4, progress=False)
    assert [one.file for one in labels.pictures] == ["a.png", "d.png", "deep/a.png"]
    assert len(labels.failures) == 3
    told = "\n".join(labels.failures)
    assert "b.png" in told and "c.png" in told and "no UTF-8" in told


def test_links_that_lead_nowhere_are_listed(pictures: Path, out: Path) -> None:
    (pictures / "round.png").symlink_to("round.png")
    (pictures / "gone.png").symlink_to("nothing.png")
    labels = label_folder(StubDetector("cat"), pictures, out, progress=False)
    assert len(labels.pictures) == 5 and len(labels.failures) == 2
    assert "gone.png" in labels.failures[0] and "round.png" in labels.failures[1]


def test_a_folder_inside_of_the_place_of_results_is_refused(pictures: Path) -> None:
    with pytest.raises(ValueError, match="where results go: name another place"):
        label_folder(StubDetector("cat"), pictures, pictures.parent, progress=False)


def test_what_is_written_is_not_labelled(pictures: Path) -> None:
    out = pictures / "labels"
    out.mkdir()
    Image.new("RGB", (9, 9)).save(out / "made.png")
    labels = label_folder(StubDetector("cat"), pictures, out, progress=False)
    assert len(labels.pictures) == 5


def test_a_file_of_another_kind_is_refused(pictures: Path, out: Path) -> None:
    (out / LINES).write_text("something else\n", encoding="utf-8")
    with pytest.raises(ValueError, match="remove it, or name another place"):
        label_folder(StubDetector("cat"), pictures, out, progress=False)
    assert (out / LINES).read_text(encoding="utf-8") == "something else\n"


@pytest.mark.parametrize("iou", [0, 1.1, float("nan")])
def test_iou_out_of_range(pictures: Path, out: Path, iou: float) -> None:
    with pytest.raises(ValueError, match="IoU of one object"):
        label_folder(StubDetector("cat"), pictures, out, iou_threshold=iou, progress=False)
