"""What our rules make of items that the authors' code refuses or lets pass."""

from __future__ import annotations

import pytest

from fgclip_det.datasets.finehard import FineHARDRules, ItemLeftOut, left_out
from tests.datasets.finehard.conftest import record, region
from tests.messages import says

RULES = FineHARDRules()


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        (["no object"], left_out.NO_ITEM),
        (None, left_out.NO_ITEM),
        (record(f_path=None), left_out.NO_PATH),
        (record(f_path=7), left_out.NO_PATH),
        (record(f_path="../../secret.png"), left_out.NO_PATH),
        (record(f_path="/etc/passwd"), left_out.NO_PATH),
        (record(f_path="a\0.png"), left_out.NO_PATH),
        (record(caption=None), left_out.NO_CAPTION),
        (record(caption=" \n"), left_out.NO_CAPTION),
        (record(short_caption=None), left_out.NO_SHORT_CAPTION),
        (record(short_caption=["a"]), left_out.NO_SHORT_CAPTION),
        (record(is_cn=True, bbox_info=None), left_out.CHINESE),
    ],
)
def test_items_that_cannot_be_used_are_named_by_kind(item, kind):
    with pytest.raises(ItemLeftOut) as caught:
        RULES.read(item)
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ("no object", left_out.BAD_BOX),
        (region(bbox=None), left_out.BAD_BOX),
        (region(bbox=[0.1, 0.2, 0.3]), left_out.BAD_BOX),
        (region(bbox=[0.5, 0.2, 0.1, 0.9]), left_out.BAD_BOX),
        (region(bbox=[0.5, 0.2, 0.5, 0.9]), left_out.BAD_BOX),
        (region(bbox=[1.2, 0.2, 1.5, 0.9]), left_out.BAD_BOX),
        (region(bbox=[0.1, "0.2", 0.5, 0.9]), left_out.BAD_BOX),
        (region(bbox=[0.1, float("nan"), 0.5, 0.9]), left_out.BAD_BOX),
        (region(short_expr="", long_expr=None), left_out.NO_REGION_TEXT),
    ],
)
def test_a_broken_region_gives_its_place_to_the_next(entry, kind):
    item = FineHARDRules(max_boxes=2).read(
        record(bbox_info=[entry, region(1), region(2), region(3)])
    )
    assert [r.short_text for r in item.regions] == ["a cup 1", "a cup 2"]
    assert item.left_out == (kind,)


def test_boxes_are_clipped_to_the_picture_and_more_numbers_ignored():
    item = RULES.read(record(bbox_info=[region(bbox=[-0.5, 0, 1.5, 0.25, 0.99])]))
    assert item.regions[0].box == (0.0, 0.0, 1.0, 0.25)


def test_an_item_without_bbox_info_is_used_for_its_captions():
    item = RULES.read(record(bbox_info=None))
    assert item.regions == () and item.left_out == (left_out.NO_BOXES,)
    assert RULES.read(record(bbox_info=[])).left_out == ()


@pytest.mark.parametrize("count", [0, 1, 7, 10, 12, 30])
def test_any_number_of_negatives(count):
    negatives = {str(i): f"a pot {i}" for i in range(count)}
    item = RULES.read(record(bbox_info=[region(short_expr_negs=negatives)]))
    wanted = ("a cup 0", *negatives.values()) if count else ()
    assert item.regions[0].hard_group == wanted
    assert item.left_out == (() if count else (left_out.NO_NEGATIVES,))


@pytest.mark.parametrize("flag", [0, None, "1", False])
def test_without_the_flag_there_are_no_negatives(flag):
    item = RULES.read(record(bbox_info=[region(flag_short_neg=flag)]))
    assert item.regions[0].hard_group == () and item.left_out == ()


def test_a_negative_that_is_right_repeated_or_empty_is_left_out():
    negatives = {"0": "A CUP 0", "1": "a pot", "2": "a pot", "3": " ", "4": None}
    item = FineHARDRules(generation=2).read(record(bbox_info=[region(short_expr_negs=negatives)]))
    assert item.regions[0].hard_group == ("a cup 0", "a pot")
    assert item.left_out == (left_out.BAD_NEGATIVE,) * 4


def test_case_never_tells_the_right_text_of_a_group():
    entry = region(short_expr="A Red CUP", short_expr_negs={"0": "A Blue CUP"})
    ours = FineHARDRules(generation=2).read(record(bbox_info=[entry]))
    assert ours.regions[0].hard_group == ("a red cup", "a blue cup")
    theirs = FineHARDRules(generation=2, as_published=True).read(record(bbox_info=[entry]))
    assert theirs.regions[0].hard_group == ("A Red CUP", "a blue cup")
    first = FineHARDRules(generation=1).read(record(bbox_info=[entry]))
    assert first.regions[0].hard_group == ("A Red CUP", "A Blue CUP")


def test_chinese_items_of_the_second_generation_have_no_prefix_and_no_boxes():
    item = FineHARDRules(generation=2).read(record(is_cn=1, short_caption="Ein Bild"))
    assert item.short_caption == "ein bild" and item.regions == ()
    item = FineHARDRules(generation=2).read(record(is_cn=0))
    assert item.short_caption == "a photo of picture 0" and len(item.regions) == 1


@pytest.mark.parametrize("generation", [1, 2])
def test_the_old_folder_is_cut_from_paths(generation):
    item = FineHARDRules(generation=generation).read(record(f_path="grit-20m/data-12m/a/b.jpg"))
    assert item.path == "a/b.jpg"


@pytest.mark.parametrize(
    ("settings", "value"),
    [({"generation": 3}, 3), ({"max_boxes": -1}, -1), ({"max_negatives": 2.5}, 2.5)],
)
def test_settings_that_cannot_be_are_refused(settings, value):
    with pytest.raises(ValueError, match=says(*settings, value)):
        FineHARDRules(**settings)
