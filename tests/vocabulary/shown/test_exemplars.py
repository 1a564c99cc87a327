import json

import numpy as np
import pytest
from PIL import Image

from fgclip_det.vocabulary import Exemplar, Vocabulary
from fgclip_det.vocabulary.shown.exemplars import Shown

PIXELS = np.zeros((20, 30, 3), np.uint8)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS + 7).save(path)
    return path


def test_forms_of_exemplars(picture):
    text = f"{picture}:1,2,13.5,14"
    one = Exemplar.parse(text)
    assert one == Exemplar(picture, (1, 2, 13.5, 14))
    assert one.name == text
    assert Exemplar.parse("a.png", picture.parent) == Exemplar(picture)
    assert Exemplar.parse({"picture": "a.png", "box": [1, 2, 13.5, 14]}, picture.parent) == one
    row = Exemplar.parse("regions.safetensors:3")
    assert (row.regions, row.row) == ("regions.safetensors", 3)
    assert Exemplar.parse(PIXELS) == Exemplar(PIXELS.copy()) != Exemplar(PIXELS + 1)


def test_a_file_that_is_called_like_a_box_is_a_file(picture):
    odd = picture.with_name("a.png:1,2,13,14")
    picture.rename(odd)
    assert Exemplar.parse(str(odd)).box is None


def test_the_same_picture_elsewhere_is_the_same_exemplar(picture, tmp_path):
    copy = tmp_path / "b.png"
    copy.write_bytes(picture.read_bytes())
    assert Exemplar(copy) == Exemplar(picture)
    Image.fromarray(PIXELS + 9).save(copy)
    assert Exemplar(copy) != Exemplar(picture)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"picture": "a.png", "box": (5, 5, 5, 9)}, "4 or more"),
        ({"picture": "a.png", "box": (5, 5, 2, 9)}, "4 or more"),
        ({"picture": "a.png", "box": (0, 0, float("nan"), 9)}, "4 or more"),
        ({"picture": "a.png", "box": (0, 0, 9)}, "x1, y1, x2, y2"),
        ({"picture": "a.png", "box": "all"}, "x1, y1, x2, y2"),
        ({"picture": 3}, "name files"),
        ({"picture": "a.png", "regions": "b.safetensors", "row": 1}, "give a picture"),
        ({"regions": "b.safetensors"}, "row"),
        ({"regions": "b.safetensors", "row": -1}, "from 0 on"),
        ({"image": "a.png"}, "give a picture"),
        ({}, "give a picture"),
        (3, "give a picture"),
        ("a.png:1,2,3", "x1,y1,x2,y2"),
        (np.zeros((4, 4)), "uint8 RGB"),
    ],
)
def test_what_is_no_exemplar_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        Exemplar.parse(given)


def test_a_missing_picture_is_named_when_it_is_needed():
    with pytest.raises(ValueError, match=r"nowhere\.png"):
        _ = Exemplar("nowhere.png").source


def test_the_same_region_cannot_be_meant_and_not_meant(picture):
    box = Exemplar(picture, (1, 2, 21, 18))
    for other in (box, Exemplar(picture, (1.2, 2, 21, 18.3))):
        with pytest.raises(ValueError, match="both as what is meant and as what is not"):
            Shown(like=(Exemplar(PIXELS), box), not_like=(other,))
    Shown(like=(box,), not_like=(Exemplar(picture, (8, 2, 28, 18)), Exemplar(picture)))


def test_a_vocabulary_of_what_is_said_and_shown(picture):
    exemplar = {"picture": str(picture), "box": [1, 2, 21, 18]}
    form = {
        "dent": {"like": [exemplar, str(picture), exemplar]},
        "a  mug": {"prompts": ["a mug", "a cup"], "not": "a jug", "not_like": PIXELS},
        "plate": ["a plate"],
    }
    vocabulary = Vocabulary.parse({"names": form, "groups": {"novel": ["dent"]}})
    assert vocabulary.names == ("dent", "a mug", "plate")
    assert vocabulary.prompts == ((), ("a mug", "a cup"), ("a plate",))
    assert len(vocabulary.shown["dent"].like) == 2
    assert vocabulary.negatives == [(1, "a jug"), (1, "not pixels")]
    assert Vocabulary.parse(form).subset(["plate"]).shown is None
    assert vocabulary.subset(["dent"]).negatives == []
    again = Vocabulary.parse(json.loads(json.dumps(vocabulary.to_dict())))
    assert again == vocabulary
    assert again.hash == vocabulary.hash
    assert Vocabulary.parse(vocabulary, templates="a photo of {}.").shown == vocabulary.shown


def test_the_hash_tells_what_is_shown(picture):
    hashes = {
        Vocabulary.parse(form).hash
        for form in (
            {"dent": ["dent"]},
            {"dent": {"prompts": ["dent"], "like": str(picture)}},
            {"dent": {"prompts": ["dent"], "not_like": str(picture)}},
            {"dent": {"prompts": ["dent"], "like": f"{picture}:1,2,9,9"}},
            {"dent": {"like": str(picture)}},
        )
    }
    assert len(hashes) == 5


def test_files_are_relative_to_the_vocabulary_that_names_them(picture):
    file = picture.with_name("names.json")
    file.write_text(json.dumps({"dent": {"like": ["a.png:1,2,9,9"]}}))
    assert Vocabulary.parse(file).shown["dent"].like == (Exemplar(picture, (1, 2, 9, 9)),)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"likes": "a.png"}, "likes"),
        ({"prompts": [], "not": "a"}, "prompt or exemplar"),
        ({"prompts": 3}, "list of strings"),
        ({"like": "a.png:1,2,3"}, "x1,y1,x2,y2"),
        ({"not": [3]}, "phrases"),
        ({"prompts": ["a mug", "a cup"], "not": "a cup"}, "said both as what is meant"),
    ],
)
def test_what_is_no_entry_is_refused(entry, words):
    with pytest.raises(ValueError, match=words):
        Vocabulary.parse({"dent": entry})
