"""``{"names": ...}`` where the names are a file or a built-in vocabulary."""

import json

import pytest

from fgclip_det.vocabulary import Vocabulary
from fgclip_det.vocabulary.templates import TEMPLATE_SETS
from tests.messages import says


def test_built_in_names_with_other_templates():
    own = Vocabulary.parse("ov_coco")
    nested = Vocabulary.parse({"names": "ov_coco", "templates": "photos"})
    assert nested.templates == TEMPLATE_SETS["photos"] != own.templates
    assert (nested.names, nested.prompts, nested.groups) == (own.names, own.prompts, own.groups)
    assert Vocabulary.parse({"names": "ov_coco"}) == own


def test_file_of_names_with_groups_beside(tmp_path):
    (tmp_path / "names.txt").write_text("mug | a mug\nplate\n")
    spec = {"names": str(tmp_path / "names.txt"), "groups": {"base": ["mug"], "novel": ["plate"]}}
    vocabulary = Vocabulary.parse(spec)
    assert vocabulary.prompts == (("a mug",), ("plate",))
    assert vocabulary.novel_classes == ("plate",)


def test_names_that_lead_back_to_themselves(tmp_path):
    path = tmp_path / "loop.json"
    path.write_text(json.dumps({"names": str(path)}))
    with pytest.raises(ValueError, match=says('"names"', "loop.json", "back")):
        Vocabulary.parse(path)
