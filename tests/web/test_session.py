"""What a user is answered is what the Python interface and the command line answer."""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from fgclip_det.apis import similarity_maps
from fgclip_det.apis.detector_loading import BUNDLED
from fgclip_det.cli import main
from fgclip_det.vocabulary import Exemplar
from fgclip_det.web.limits import Budget, Kept, Limits
from fgclip_det.web.pictures import Picture
from fgclip_det.web.question import Question
from fgclip_det.web.session import Session

FILES = sorted((BUNDLED / "images").iterdir())
TEXTS = "a blue dotted star. a green checkered star. a cyan striped ring"
BOX = (17.0, 24.0, 54.0, 64.0)


@pytest.fixture
def session(calibrated_detector) -> Session:
    limits = Limits()
    pictures = [Picture.on_server(path) for path in FILES]
    made = Session(
        calibrated_detector,
        Kept(limits.region_bytes),
        Budget(limits.stored_bytes),
        limits,
        pictures,
    )
    for key in made.pictures:
        made.look(key)
    return made


def empty(detector, **limits) -> Session:
    known = Limits(**limits)
    return Session(detector, Kept(known.region_bytes), Budget(known.stored_bytes), known)


def png(width: int = 40, height: int = 30) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def same(answer, found) -> None:
    assert answer.names == found.names
    for name in ("boxes", "scores", "labels"):
        assert torch.equal(getattr(answer, name), getattr(found, name))
    if found.confidences is None:
        assert answer.confidences is None
    else:
        assert torch.equal(answer.confidences, found.confidences)


@pytest.mark.parametrize("negatives", ["auto", "none", "a purple cross"])
@pytest.mark.parametrize("threshold", [None, 0.05])
def test_answers_are_those_of_the_api(session, calibrated_detector, negatives, threshold) -> None:
    question = Question(TEXTS, negatives, threshold)
    answers, seconds = session.ask(question)
    calibrated_detector.set_negatives(None if negatives == "none" else negatives)
    wanted = calibrated_detector(
        list(map(str, FILES)), TEXTS, conf_thr=threshold, one_name=True, progress=False
    )
    assert seconds > 0
    assert sum(map(len, wanted)) >= 3
    for answer, found in zip(answers.values(), wanted, strict=True):
        same(answer.found, found)


def test_answers_are_those_of_the_command(session, cached_detector, tmp_path: Path) -> None:
    told = session.told(Question(TEXTS))
    main(["demo", *map(str, FILES), "--texts", TEXTS, "--out-dir", str(tmp_path), "--no-save-vis"])
    for path, own in zip(FILES, told, strict=True):
        written = json.loads((tmp_path / "preds" / f"{path.stem}.json").read_text("utf-8"))
        assert json.loads(json.dumps(own)) == written


def test_exemplars_are_those_of_the_api(session, calibrated_detector) -> None:
    key = next(iter(session.pictures))
    session.show("dent", key, BOX)
    session.show("a purple cross", key, BOX, like=False)
    answers, _ = session.ask(Question("a purple cross. a ring"))
    shown = Exemplar(str(FILES[0]), BOX)
    asked = {
        "a purple cross": {"prompts": ["a purple cross"], "not_like": [shown]},
        "a ring": ["a ring"],
        "dent": {"like": [shown]},
    }
    wanted = calibrated_detector(list(map(str, FILES)), asked, one_name=True, progress=False)
    assert "dent" in wanted[0].names
    for answer, found in zip(answers.values(), wanted, strict=True):
        same(answer.found, found)
    assert not session.has_confidences(Question())
    session.take_back(0)
    session.take_back(0)
    assert session.has_confidences(Question())


def test_what_a_name_is_not_counts_while_it_is_asked_for(session) -> None:
    key = next(iter(session.pictures))
    session.show("a star", key, BOX, like=False)
    asked, other = Question("a star", threshold=0.6), Question("a purple cross", threshold=0.6)
    assert not session.has_confidences(asked) and session.default_threshold(asked) == 0.3
    assert session.has_confidences(other) and session.default_threshold(other) == 0.5
    assert session.meant(asked) == session.examples and session.meant(other) == []
    answers, _ = session.ask(other)
    assert next(iter(answers.values())).found.confidences[0] > 0.6
    # Shown by an example, it is looked for whatever is typed.
    session.show("a star", key, (63.0, 19.0, 110.0, 63.0))
    assert session.meant(other) == session.examples


def test_a_map_is_that_of_the_api(session, calibrated_detector) -> None:
    key, picture = next(iter(session.pictures.items()))
    made = session.heat(key, "a blue dotted star", Question(TEXTS))
    encoder = calibrated_detector.model.encoder
    wanted = similarity_maps(encoder, picture.pixels(), "a blue dotted star")[0]
    assert np.array_equal(made.cosines, wanted.numpy())
    assert made.layer.startswith("data:image/png;base64,")
    with pytest.raises(ValueError, match="not asked for any more"):
        session.heat(key, "another", Question(TEXTS))


def test_the_download_is_read_by_coco(session, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(session.coco(Question(TEXTS))), encoding="utf-8")
    coco = COCO(str(path))
    answers, _ = session.ask(Question(TEXTS))
    found = [score for one in answers.values() for score in one.found.confidences.tolist()]
    assert [one["score"] for one in coco.loadAnns(coco.getAnnIds())] == found
    assert len(coco.getImgIds()) == len(FILES)


def test_the_most_boxes_are_the_best(session) -> None:
    texts = "a star. a cross. a ring. a triangle"
    everything, _ = session.ask(Question(texts, most=100))
    some, _ = session.ask(Question(texts, most=1))
    for key, answer in some.items():
        assert torch.equal(answer.found.boxes, everything[key].found.boxes[:1])
        assert answer.left_out == len(everything[key].found) - 1
    assert max(answer.left_out for answer in some.values()) > 0


def test_neighbours_say_what_else_it_is_like(session) -> None:
    answers, _ = session.ask(Question("a blue dotted star"))
    (near,) = next(iter(answers.values())).near
    assert near.name != "a blue dotted star"
    assert 0 < near.cosine < 1 and 0 < near.own < 1


def test_a_name_is_not_its_own_neighbour(session) -> None:
    """As an exchange of another name would have it, "a purple cross" of "a yellow cross"."""
    answers, _ = session.ask(Question("a purple cross. a yellow cross. a blue dotted star"))
    pairs = [
        (name, near.name)
        for one in answers.values()
        for name, near in zip(one.found.names, one.near, strict=True)
    ]
    assert len(pairs) >= 3
    assert [name for name, other in pairs if name == other] == []


def test_a_negative_that_was_typed_is_a_neighbour_too(session) -> None:
    for negatives in ("auto", "a purple dotted thing", "none"):
        answers, _ = session.ask(Question("a purple cross", negatives))
        (near,) = next(iter(answers.values())).near
        assert (near.name == "a purple dotted thing") is (near.name == negatives)
        assert (near.name == negatives) is (negatives not in ("auto", "none"))


def test_texts_asked_before_cost_no_tower(session, calibrated_detector, monkeypatch) -> None:
    encoder = calibrated_detector.model.encoder
    said = []
    real = type(encoder).encode_text

    def encode_text(self, texts, *args, **kwargs):
        said.extend(texts)
        return real(self, texts, *args, **kwargs)

    monkeypatch.setattr(type(encoder), "encode_text", encode_text)
    for number in range(12):
        session.ask(Question(f"a violet vase number {number}. an orange oar"))
    assert "an orange oar" in said
    said.clear()
    answers, _ = session.ask(Question("an orange oar. a violet vase number 3. an orange oar"))
    assert answers and said == []
    # Beside a new one only that is encoded, with its exchanges.
    session.ask(Question("an orange oar. a violet vase number 3. a tin can"))
    assert "a tin can" in said and "an orange oar" not in said


@pytest.mark.parametrize("text", ["", " . , ", "\n"])
def test_nothing_said_is_nothing_found(session, text: str) -> None:
    assert session.ask(Question(text))[0] == {}


@pytest.mark.parametrize("text", ["/etc/passwd.txt", "names.JSON", "a mug. ../b.json"])
@pytest.mark.parametrize("field", ["names", "negatives"])
def test_files_of_the_server_are_out_of_reach(session, tmp_path, text: str, field: str) -> None:
    given = {"names": "a star", field: text}
    with pytest.raises(ValueError, match="names a file"):
        session.ask(Question(**given))


def test_a_name_may_be_a_word_of_the_format(session) -> None:
    key = next(iter(session.pictures))
    session.show("names", key, BOX)
    assert session.vocabulary(Question("categories. a star")).names == (
        "categories", "a star", "names",
    )  # fmt: skip


def test_too_many_names_are_refused(session) -> None:
    with pytest.raises(ValueError, match="101 names are asked for: 100"):
        session.ask(Question(", ".join(f"thing {n}" for n in range(101))))
    with pytest.raises(ValueError, match="1203 names"):
        session.ask(Question("lvis"))


def svg_bytes() -> bytes:
    return b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def bomb() -> bytes:
    """A PNG of 200 million pixels in its head."""
    whole = bytearray(png())
    whole[16:24] = (20000).to_bytes(4, "big") + (10000).to_bytes(4, "big")
    whole[29:33] = zlib.crc32(whole[12:29]).to_bytes(4, "big")
    return bytes(whole)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", "is empty"),
        (svg_bytes(), "not a picture"),
        (b"hello", "not a picture"),
        (bomb(), "more than 40 million pixels"),
        (png()[:60], "truncated"),
        (png(1, 1), "nothing can be seen"),
        (b"%PDF-1.4\n", "not a picture"),
    ],
)
def test_hostile_files_are_a_line(calibrated_detector, data: bytes, line: str) -> None:
    session = empty(calibrated_detector)
    with pytest.raises(ValueError, match=line) as caught:
        session.add("../../<b>.png", data)
    assert "\n" not in str(caught.value) and ".." not in str(caught.value)
    assert not session.pictures


def test_pixels_are_limited_before_they_are_decoded(calibrated_detector) -> None:
    with pytest.raises(ValueError, match=r"more than 0\.001 million"):
        empty(calibrated_detector, pixels=1000).add("a.png", png())


def test_pictures_and_bytes_are_limited(calibrated_detector) -> None:
    session = empty(calibrated_detector, pictures=2)
    first = session.add("a.png", png())
    session.add("b.png", png())
    with pytest.raises(ValueError, match="2 pictures are the most"):
        session.add("c.png", png())
    session.remove(first.key)
    session.add("c.png", png())
    small = empty(calibrated_detector, stored_bytes=first.size)
    small.add("a.png", png())
    with pytest.raises(ValueError, match="as many pictures as it may"):
        small.add("b.png", png())
    small.remove(*small.pictures)
    small.add("b.png", png())


def test_what_comes_after_the_page_is_closed_takes_nothing(calibrated_detector) -> None:
    session = empty(calibrated_detector)
    session.add("a.png", png())
    session.close()
    with pytest.raises(ValueError, match="this page is closed: load it again"):
        session.add("b.png", png())
    assert session._budget.used == 0 and not session.pictures


def test_regions_that_were_dropped_are_looked_for_again(calibrated_detector) -> None:
    session = empty(calibrated_detector, region_bytes=1)
    picture = session.add("a.png", FILES[0].read_bytes())
    assert len(session.look(picture.key))
    assert not session.is_looked_at(picture.key)


def test_what_a_browser_is_sent_is_made_here(calibrated_detector) -> None:
    data = FILES[0].read_bytes() + b"<script>alert(1)</script>"
    picture = empty(calibrated_detector).add("a.png", data)
    assert b"script" not in picture.shown
    pixels = np.asarray(Image.open(io.BytesIO(picture.shown)))
    assert np.array_equal(pixels, picture.pixels())


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (50, 50, 40, 60), (500, 500, 600, 600)])
def test_odd_boxes_are_refused(session, box) -> None:
    with pytest.raises(ValueError, match="box"):
        session.show("this", next(iter(session.pictures)), box)
    assert session.examples == []


@pytest.mark.parametrize("first", [True, False])
def test_what_contradicts_is_refused_at_once(session, first: bool) -> None:
    key, other = [*session.pictures][:2]
    shown = session.show("dent", key, BOX, like=first)
    with pytest.raises(ValueError, match="both as what is meant and as what is not"):
        session.show("dent", key, (17.5, 24.0, 54.0, 64.0), like=not first)
    assert session.examples == [shown] and [*session._exemplars] == [shown]
    session.show("star", key, BOX, like=not first)
    session.show("dent", other, BOX, like=not first)
    answers, _ = session.ask(Question("a ring"))
    assert len(answers) == 3


@pytest.mark.parametrize("like", [True, False])
def test_what_is_shown_twice_is_one_example(session, like: bool) -> None:
    key = next(iter(session.pictures))
    first = session.show("dent", key, BOX, like)
    assert session.show(" dent. ", key, BOX, like) == first
    assert session.examples == [first]
    other = session.show("dent", key, (63.0, 19.0, 110.0, 63.0), like)
    session.take_back(0)
    assert session.examples == [other]
    answers, _ = session.ask(Question("dent"))
    assert len(answers) == 3


def test_an_example_that_is_taken_back_while_it_is_asked_for(session, monkeypatch) -> None:
    session.show("dent", next(iter(session.pictures)), BOX)
    wanted, _ = session.ask(Question("a ring"))
    real = session._meant

    def meant(question: Question):
        found = real(question)
        session.take_back(0)  # as the page's own thread does
        return found

    monkeypatch.setattr(session, "_meant", meant)
    answers, _ = session.ask(Question("a ring"))
    for answer, other in zip(answers.values(), wanted.values(), strict=True):
        same(answer.found, other.found)
    assert not session.examples and not session._exemplars


def test_the_whole_picture_is_an_example(session, calibrated_detector) -> None:
    key, picture = next(iter(session.pictures.items()))
    for box in ((0, 0, 128, 128), (-5, -9, 500, 128)):
        assert session.show("this", key, box).box == (0, 0, 128, 128)
    answers, _ = session.ask(Question())
    wanted = calibrated_detector.encode({"this": {"like": [Exemplar(str(picture.path))]}})
    found = calibrated_detector([str(picture.path)], wanted, one_name=True, progress=False)[0]
    same(answers[key].found, found)


def test_exemplars_are_limited_and_have_names(session) -> None:
    key = next(iter(session.pictures))
    with pytest.raises(ValueError, match="a name is missing"):
        session.show(" . ", key, BOX)
    with pytest.raises(ValueError, match="not here any more"):
        session.show("this", "unknown", BOX)
    for number in range(40):
        session.show(f"thing {number}", key, BOX)
    with pytest.raises(ValueError, match="40 exemplars"):
        session.show("this", key, BOX)
    session.show("thing 7", key, BOX)  # is there already
    assert len(session.examples) == 40
