"""The page of the least certain labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgclip_det.apis.labelling.labels import Label, LabelledPicture
from fgclip_det.apis.labelling.review import least_certain, write_review
from fgclip_det.apis.labelling.run import Labels, LabelSettings


@pytest.fixture
def labels(tmp_path: Path) -> Labels:
    """Two pictures with four labels of two names."""
    (tmp_path / "in").mkdir()
    pictures = []
    scores = {"a.png": ((0, 0.5), (1, 0.75)), "b&.png": ((1, 0.9), (0, 0.3))}
    for file, rows in scores.items():
        pixels = np.zeros((50, 80, 3), np.uint8)
        pixels[..., 2] = 200
        Image.fromarray(pixels).save(tmp_path / "in" / file)
        found = tuple(Label(name, score, (10.0, 5.0, 40.0, 50.0)) for name, score in rows)
        pictures.append(LabelledPicture(file, "0" * 64, 80, 50, 1, found))
    settings = LabelSettings(("cat", "<b>dog</b>"), (0.2, 0.7))
    return Labels(settings, pictures)


def test_the_nearest_to_its_own_threshold_is_first(labels: Labels) -> None:
    chosen = least_certain(labels, 3)
    assert [label.score for _, label in chosen] == [0.75, 0.3, 0.9]
    assert [picture.file for picture, _ in chosen] == ["a.png", "b&.png", "b&.png"]
    assert len(least_certain(labels, 99)) == 4 and least_certain(labels, 0) == []


def test_a_page_with_crops(labels: Labels, tmp_path: Path) -> None:
    (tmp_path / "review").mkdir()
    (tmp_path / "review/0099.jpg").write_bytes(b"of a page before")
    page = write_review(tmp_path / "review", tmp_path / "in", labels, 2)
    text = page.read_text(encoding="utf-8")
    assert "The 2 least certain of 4 labels" in text
    assert "&lt;b&gt;dog" in text and "<b>dog</b>" not in text and "b&amp;.png" in text
    names = sorted(path.name for path in page.parent.glob("*.jpg"))
    assert names == ["0000.jpg", "0001.jpg"] and all(f'src="{name}"' in text for name in names)
    crop = np.asarray(Image.open(page.parent / "0000.jpg")).astype(int)
    assert max(crop.shape) == 240
    # Orange of the box somewhere, blue of the picture elsewhere.
    assert (crop[..., 0] > 180).any() and ((crop[..., 2] > 150) & (crop[..., 0] < 60)).any()


def test_no_labels_are_an_empty_page(tmp_path: Path) -> None:
    empty = Labels(LabelSettings(("cat",), (0.3,)))
    text = write_review(tmp_path / "review", tmp_path, empty, 10).read_text(encoding="utf-8")
    assert "The 0 least certain of 0 labels" in text


def test_a_picture_that_is_gone_leaves_the_page_before(labels: Labels, tmp_path: Path) -> None:
    write_review(tmp_path / "review", tmp_path / "in", labels, 1)
    (tmp_path / "in/a.png").unlink()
    with pytest.raises(ValueError, match=r"a\.png"):
        write_review(tmp_path / "review", tmp_path / "in", labels, 4)
    assert (tmp_path / "review/index.html").is_file()
