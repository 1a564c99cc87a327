"""Contact sheets: the metric's ranks on a page that no caption can break."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from fgclip_det.apis.fg_ovd.sheets import answer_of, marked, write_sheet
from fgclip_det.apis.fg_ovd.subsets import Subset, find_subsets
from fgclip_det.evaluation import evaluate_fg_ovd
from fgclip_det.fg_ovd.predictions import FGOVDPrediction


@pytest.fixture
def hard(fg_ovd_config: Callable[..., Config]) -> Subset:
    return find_subsets(fg_ovd_config().test_dataloader.dataset, "hard", 4)[0][0]


def guesses(subset: Subset, seed: int = 0) -> list[FGOVDPrediction]:
    """Boxes around the objects of a vocabulary and elsewhere, with any scores."""
    random = np.random.default_rng(seed)
    found = []
    for vocabulary in subset.file.vocabularies(subset.n_negatives):
        x, y, width, height = next(
            one["bbox"] for one in subset.file.annotations if one["id"] == vocabulary.annotation_id
        )
        boxes = np.array([x, y, x + width, y + height]) + random.normal(0, 5, (6, 4))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        scores = random.random((6, 1 + subset.n_negatives))
        found.append(
            FGOVDPrediction(
                vocabulary.annotation_id, boxes.astype(np.float32), scores.astype(np.float32)
            )
        )
    found[0] = found[0]._replace(boxes=np.zeros((0, 4), np.float32), scores=np.zeros((0, 0)))
    found[1] = found[1]._replace(boxes=found[1].boxes + 300)
    # The right caption and another one score alike: the rank counts both.
    found[2].scores[:, :2] = 2
    return found


class Page(HTMLParser):
    """Fails on tags that are not ours; collects texts and pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts, self.pictures = [], []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        known = "html meta title style h1 p span mark section figure figcaption img div ol li"
        assert tag in known.split(), tag
        if tag == "img":
            self.pictures.append(dict(attributes)["src"])

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_ranks_are_those_of_the_metric(hard: Subset, tmp_path: Path) -> None:
    found = guesses(hard)
    total = len(hard.file.annotations)
    page = write_sheet(tmp_path / "hard", hard, found, 1000).read_text(encoding="utf-8")
    choices = evaluate_fg_ovd(hard.file, found, 4, with_choices=True)["choices"]
    expected = [
        f"rank {one['rank']} of 5" if one["chosen"] >= 0 else "no detection overlaps it: rank 5"
        for one in choices.values()
    ]
    assert re.findall(r"<p>((?:rank|no det)[^<]*)</p>", page) == expected
    assert len(set(expected)) > 3 and expected[0] == expected[1] == expected[-1 - total + 1]
    assert page.count("<li class=right>") == total
    boxes = {p.annotation_id: p for p in found}
    one = hard.file.annotations[4]
    x, y, w, h = one["bbox"]
    answer = answer_of(boxes[one["id"]], np.array([x, y, x + w, y + h], np.float32))
    if choices[one["id"]]["chosen"] >= 0:
        assert answer.scores.argmax() == choices[one["id"]]["chosen"]


def test_a_page_needs_nothing_but_its_folder(hard: Subset, tmp_path: Path) -> None:
    folder = tmp_path / "sheets" / "hard"
    folder.mkdir(parents=True)
    (folder / "old.jpg").write_bytes(b"")
    page = Page(write_sheet(folder, hard, guesses(hard), 3).read_text(encoding="utf-8"))
    assert len(page.pictures) == 3
    assert {*page.pictures, "index.html"} == {path.name for path in folder.iterdir()}
    assert [path.name for path in folder.parent.iterdir()] == ["hard"]
    for name in page.pictures:
        with Image.open(folder / name) as image:
            assert max(image.size) == 320
    # Spread over the subset: from the first object on.
    ids = [int(Path(name).stem) for name in page.pictures]
    step = len(hard.file.annotations) / 3
    assert ids == [hard.file.annotations[int(step * place)]["id"] for place in range(3)]


def test_both_boxes_are_drawn(hard: Subset, tmp_path: Path) -> None:
    one = hard.file.annotations[0]
    x, y, w, h = one["bbox"]
    boxes = np.array([[x + 4, y + 4, x + w + 4, y + h + 4]], np.float32)
    scores = np.array([[0.9, 0.1, 0.1, 0.1, 0.1]], np.float32)
    found = [FGOVDPrediction(one["id"], boxes, scores)]
    write_sheet(tmp_path / "hard", hard, found, 1)
    with Image.open(tmp_path / "hard" / f"{one['id']}.jpg") as image:
        pixels = np.asarray(image).astype(int)
    for color in ((44, 162, 95), (230, 85, 13)):
        assert (np.abs(pixels - color).max(axis=-1) < 40).sum() > 200


def test_pictures_are_drawn_as_stored(hard: Subset, tmp_path: Path) -> None:
    write_sheet(tmp_path / "plain", hard, guesses(hard), 3)
    paths = sorted({Path(path) for path in hard.img_paths.values()})
    for path in paths:
        exif = Image.Exif()
        exif[0x0112] = 6
        with Image.open(path) as image:
            image.load()
        image.save(path, exif=exif)
    write_sheet(tmp_path / "exif", hard, guesses(hard), 3)
    names = {one.name for one in (tmp_path / "plain").glob("*.jpg")}
    assert len(names) == 3
    for name in names:
        assert (tmp_path / "exif" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    # A picture whose annotation is of the turned one.
    for path in paths:
        with Image.open(path) as image:
            image.load()
        image.resize((image.width, image.height * 2)).save(path, exif=exif)
    images = [{**one, "width": 2 * one["height"]} for one in hard.file.images]
    turned = replace(hard, file=replace(hard.file, images=tuple(images)))
    with pytest.raises(ValueError, match="-auto-orient"):
        write_sheet(tmp_path / "turned", turned, guesses(hard), 3)


def test_captions_cannot_break_the_page(hard: Subset, tmp_path: Path) -> None:
    captions = {
        number: f'<script>alert("{text}")</script> & co'
        for number, text in hard.file.captions.items()
    }
    hostile = replace(hard, file=replace(hard.file, captions=captions))
    page = Page(write_sheet(tmp_path / "hard", hostile, guesses(hard), 4).read_text("utf-8"))
    assert any("<script>alert(" in text for text in page.texts)


@pytest.mark.parametrize(
    ("right", "other", "expected"),
    [
        ("a red cup", "a red cup", "a red cup"),
        ("A red cup", "a blue cup.", "a <mark>blue</mark> cup."),
        ("a red rim, a red cup", "a red rim, a blue cup", "a red rim, a <mark>blue</mark> cup"),
        ("a dark red cup", "a light cup", "a <mark>light</mark> cup"),
        ("a cup", "a cup of dark glass", "a cup <mark>of dark glass</mark>"),
        ("a <b> cup", "a <i> cup", "a &lt;<mark>i</mark>&gt; cup"),
        ("a cup", "", ""),
    ],
)
def test_words_that_differ_are_marked(right: str, other: str, expected: str) -> None:
    assert marked(right, other) == expected
