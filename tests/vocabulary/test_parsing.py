import json
import warnings

import pytest

from fgclip_det.vocabulary import Vocabulary
from fgclip_det.vocabulary.parsing import BUILTIN, DATA, parse
from tests.messages import says


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cat . dog .", ["cat", "dog"]),
        ("cat... dog", ["cat", "dog"]),
        ("cat; dog", ["cat", "dog"]),
        ("cat\ndog\n", ["cat", "dog"]),
        ("cat.\ndog.", ["cat", "dog"]),
        # A period, even one at the end, says that commas belong to the names.
        ("a small, red mug.", ["a small, red mug"]),
        ("bottle of 1.5 l, mug", ["bottle of 1.5 l", "mug"]),
        ("a 1.5 l bottle.", ["a 1.5 l bottle"]),
        ("Red MUG", ["Red MUG"]),
        ("كوب أحمر. 赤いマグカップ. ☕", ["كوب أحمر", "赤いマグカップ", "☕"]),
    ],
)
def test_text_is_split(text, names):
    assert list(parse(text).prompts) == names


@pytest.mark.parametrize("text", ["...", "\n\t", ",", ".;.", ". . ,"])
def test_separators_alone_name_nothing(text):
    with pytest.raises(ValueError, match="names nothing to look for"):
        parse(text)


@pytest.mark.parametrize(
    ("spec", "prompts"),
    [
        (("mug",), {"mug": ["mug"]}),
        ([("couch", "sofa", "couch")], {"couch": ["couch", "sofa"]}),
        ({"names": [["couch", "sofa"]]}, {"couch": ["couch", "sofa"]}),
        ({"mug": []}, {"mug": ["mug"]}),
        ({"mug": ("a  mug ", "")}, {"mug": ["a mug"]}),
        (["mug", "", " "], {"mug": ["mug"]}),
    ],
)
def test_prompts_are_cleaned(spec, prompts):
    assert parse(spec).prompts == prompts


@pytest.mark.parametrize("line", ["mug", "mug |", " mug | mug ", "mug || mug", "\ufeffmug"])
def test_lines_of_text_files(tmp_path, line):
    path = tmp_path / "names.TXT"
    path.write_text(f"{line}\n  # a comment\n\n", encoding="utf-8")
    assert parse(str(path)).prompts == {"mug": ["mug"]}


def test_json_file_carries_templates_and_groups(tmp_path):
    path = tmp_path / "names.json"
    values = {
        "names": {"mug": ["a mug", "a cup"], "fork": "a fork"},
        "templates": ["the {}"],
        "groups": {"base": ["mug"], "novel": ["fork"]},
    }
    path.write_text(json.dumps(values))
    parsed = parse(path)
    assert parsed.prompts == {"mug": ["a mug", "a cup"], "fork": ["a fork"]}
    assert (parsed.templates, parsed.groups) == (["the {}"], values["groups"])
    given = Vocabulary.parse(path, templates="none", groups={"base": ["fork"]})
    assert (given.templates, given.groups) == (("{}",), {"base": ["fork"]})


def test_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "names.txt").write_text("mug\n")
    assert list(parse("~/names.txt").prompts) == ["mug"]
    with pytest.raises(ValueError, match=r"vocabulary file .* cannot be read"):
        parse("~no_such_user_here/names.txt")


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_builtin_files_are_there_and_hold_no_repeats(name):
    assert (DATA / BUILTIN[name]).is_file()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse(name).templates == ["a photo of {article} {}."]


def test_ov_coco_is_part_of_coco():
    coco, ov_coco = Vocabulary.parse("coco"), Vocabulary.parse("ov_coco")
    assert len(ov_coco.novel_classes) == 17
    assert not set(ov_coco.base_classes) & set(ov_coco.novel_classes)
    # Labels of both follow the order of COCO's own categories.
    assert ov_coco.names == tuple(name for name in coco.names if name in set(ov_coco.names))


@pytest.mark.parametrize(
    "form", [["mug", "plate", "mug"], {"names": ["mug", "plate", "mug"]}, "mug, plate, mug"]
)
def test_repeats_warn_once_at_the_caller(form):
    with pytest.warns(UserWarning, match=r"1 name.*'mug'") as warned:
        assert Vocabulary.parse(form).names == ("mug", "plate")
    assert len(warned) == 1


def test_repeats_in_a_file_join_their_prompts(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("mug | a mug\nplate\nmug | a cup\n")
    with pytest.warns(UserWarning, match="1 name"):
        assert parse(path).prompts == {"mug": ["a mug", "a cup"], "plate": ["plate"]}


@pytest.mark.parametrize("spec", [None, 3.5, True, b"mug", {"mug"}, iter(["mug"]), {3: "mug"}])
def test_wrong_types_are_value_errors(spec):
    with pytest.raises(ValueError, match=r"cannot be a|must be a"):
        parse(spec)


def test_json_error_names_file_and_line(tmp_path):
    path = tmp_path / "names.json"
    path.write_text('{"mug": "a mug",\n "fork": }\n')
    with pytest.raises(ValueError, match=says("names.json", "JSON", "line 2")):
        parse(path)


def test_a_folder_is_no_vocabulary(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        parse(tmp_path)
