import json
import time

import pytest

from fgclip_det.vocabulary import Vocabulary
from fgclip_det.vocabulary import vocabulary as vocabulary_module
from tests.messages import says

NOVEL_LABELS = [4, 5, 11, 12, 15, 16, 21, 23, 27, 29, 32, 34, 45, 47, 54, 58, 63]


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("a red striped mug. a blue plain mug", ("a red striped mug", "a blue plain mug")),
        ("a cat. a dog.", ("a cat", "a dog")),
        ("a cat.", ("a cat",)),
        ("cat, dog ,  sea   lion", ("cat", "dog", "sea lion")),
        ("a small, red mug. a dog", ("a small, red mug", "a dog")),
        ("a 1.5 l bottle", ("a 1.5 l bottle",)),
        ("a 1.5 l bottle. a mug", ("a 1.5 l bottle", "a mug")),
        ("mug", ("mug",)),
        (["mug", " red   plate "], ("mug", "red plate")),
        ("красная кружка. 红色的杯子", ("красная кружка", "红色的杯子")),
        ({"mug": ["a mug", "a cup"]}, ("mug",)),
        ({"names": ["mug", "plate"]}, ("mug", "plate")),
    ],
)
def test_forms(spec, names):
    assert Vocabulary.parse(spec).names == names


def test_prompts_of_lists_and_mappings():
    synonyms = Vocabulary.parse([["couch", "sofa"], "chair"])
    assert synonyms.names == ("couch", "chair")
    assert synonyms.prompts == (("couch", "sofa"), ("chair",))
    mapping = Vocabulary.parse({"couch": ["a couch", "a sofa"], "chair": "a chair"})
    assert mapping.prompts == (("a couch", "a sofa"), ("a chair",))


def test_text_file(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("# what to find\n\nred mug | a red mug | a mug in red\nplate\n")
    for spec in (path, str(path)):
        vocabulary = Vocabulary.parse(spec)
        assert vocabulary.names == ("red mug", "plate")
        assert vocabulary.prompts == (("a red mug", "a mug in red"), ("plate",))


@pytest.mark.parametrize(
    "values",
    [
        ["mug", "plate"],
        {"names": ["mug", "plate"]},
        {"mug": ["mug"], "plate": ["plate"]},
        {"categories": [{"id": 7, "name": "mug"}, {"id": 3, "name": "plate"}], "images": []},
    ],
)
def test_json_files(tmp_path, values):
    path = tmp_path / "names.json"
    path.write_text(json.dumps(values))
    assert Vocabulary.parse(path).names == ("mug", "plate")


def test_builtin_coco_and_lvis():
    coco, lvis = Vocabulary.parse("coco"), Vocabulary.parse("lvis")
    assert (len(coco), len(lvis)) == (80, 1203)
    assert (coco.names[0], coco.names[-1]) == ("person", "toothbrush")
    row = lvis.names.index("aerosol_can")
    assert lvis.prompts[row] == ("aerosol can",)


def test_ov_coco_labels_are_the_published_ones():
    vocabulary = Vocabulary.parse("ov_coco")
    assert (len(vocabulary), len(vocabulary.base_classes)) == (65, 48)
    assert [vocabulary.names.index(name) for name in vocabulary.novel_classes] == NOVEL_LABELS


def test_a_vocabulary_passes_through():
    vocabulary = Vocabulary.parse("mug. plate")
    assert Vocabulary.parse(vocabulary) is vocabulary
    assert Vocabulary.parse(vocabulary, templates="photo").templates == (
        "a photo of {article} {}.",
    )


def test_groups_and_subsets():
    groups = {"base": ["plate", "mug"], "novel": ["fork"]}
    vocabulary = Vocabulary.parse("mug. fork. plate", groups=groups)
    assert vocabulary.base_classes == ("mug", "plate")
    assert vocabulary.subset("base").names == ("mug", "plate")
    assert vocabulary.subset("base").groups == {"base": ["plate", "mug"], "novel": []}
    assert vocabulary.subset(["plate", "fork"]).names == ("fork", "plate")
    with pytest.raises(ValueError, match="'knife'"):
        vocabulary.subset(["knife"])
    with pytest.raises(ValueError, match="no 'base' group"):
        Vocabulary.parse("mug").subset("base")


def test_json_round_trip_and_hash(tmp_path):
    vocabulary = Vocabulary.parse(
        {"mug": ["a mug", "кружка"], "fork": ["a fork"]},
        templates=["a photo of {}."],
        groups={"base": ["mug"], "novel": ["fork"]},
    )
    vocabulary.to_json(tmp_path / "v.json")
    again = Vocabulary.parse(tmp_path / "v.json")
    assert again == vocabulary
    assert again.hash == vocabulary.hash
    assert vocabulary.hash != Vocabulary.parse("fork. mug").hash
    assert Vocabulary.parse("mug. fork").hash != Vocabulary.parse("fork. mug").hash


def test_equal_vocabularies_hash_alike():
    one = Vocabulary.parse("mug. fork", groups={"base": ["mug"], "novel": ["fork"]})
    other = Vocabulary.parse(["mug", "fork"], groups={"novel": ["fork"], "base": ["mug"]})
    assert one == other
    assert (hash(one), one.hash) == (hash(other), other.hash)
    assert one != Vocabulary.parse("mug. fork")
    assert one.hash != Vocabulary.parse("mug. fork").hash
    assert one.hash != Vocabulary.parse(one, templates="article").hash


def test_duplicates_are_merged_and_said_once():
    with pytest.warns(UserWarning, match="2 name.*'mug'") as warned:
        vocabulary = Vocabulary.parse("mug. plate. mug. plate")
    assert vocabulary.names == ("mug", "plate")
    assert len(warned) == 1


def test_ten_times_the_names_take_about_ten_times_as_long():
    def seconds(count):
        """Of the processor, so that other processes do not count."""
        start = time.process_time()
        assert len(Vocabulary.parse(". ".join(f"thing {i}" for i in range(count)))) == count
        return time.process_time() - start

    # With each name compared to all others it would be a hundred times.
    assert min(seconds(5000) for _ in range(5)) < 40 * min(seconds(500) for _ in range(5))


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("", ("''", "give names")),
        (" . , ; .", ("' . , ; .'", "give names")),
        ([], ("the list of names", "give names")),
        ("absent.txt", ("absent.txt", "check the path")),
        ("absent.json", ("absent.json", "check the path")),
        (7, ("int", "a list of names", ".json")),
        ([3], ("3", "string")),
        ({"mug": [3]}, ("prompts of 'mug'",)),
        ({"names": "mug"}, ("'mug'", '"names"', "list")),
        ({"names": ["mug"], "groups": {"base": ["fork"]}}, ("'fork'", "'base'", "names")),
        ({"names": ["mug"], "groups": {"seen": ["mug"]}}, ("groups",)),
        ({"names": ["mug"], "groups": {"base": "mug"}}, ("groups", "lists")),
        ({"names": ["mug"], "groups": {"base": [["mug"]]}}, ("groups", "lists")),
        ({"names": ["mug"], "groups": {"base": ["mug"], "novel": ["mug"]}}, ("mug", "both groups")),
        ({"names": ["mug"], "templates": ["a photo"]}, ("'a photo'", "{}")),
    ],
)
def test_bad_input_is_named(spec, parts):
    with pytest.raises(ValueError, match=says(*parts)):
        Vocabulary.parse(spec)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "no complete JSON.*line 1"), ("3", "holds a int"), ("[]", "names nothing")],
)
def test_bad_json_files_are_named(tmp_path, text, message):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        Vocabulary.parse(path)
    assert "bad.json" in str(raised.value)


def test_binary_file_is_named(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(ValueError, match=r"names\.txt.*cannot be read"):
        Vocabulary.parse(path)


def test_texts_are_read_once_for_all_names_that_are_looked_for(monkeypatch):
    read = []
    bare = vocabulary_module._bare
    monkeypatch.setattr(vocabulary_module, "_bare", lambda text: read.append(text) or bare(text))
    words = Vocabulary.parse({"a Fork": ["it"], "it": ["a thing", "the mug"], "cup": ["cup", "it"]})
    assert words.places_in(["mug", "plate", "fork", "Fork."]) == [2, 0, -1]
    read.clear()
    # A name counts before its prompts, wherever they are looked for.
    assert words.places_in(["it", "cup"]) == [0, 0, 1]
    assert words.places_in(["an IT", "the it"]) == [0, 0, 0]
    assert words.places_in([]) == [-1, -1, -1]
    assert read == ["it", "cup", "an IT", "the it"]
    assert words == Vocabulary.parse(words.to_dict())
