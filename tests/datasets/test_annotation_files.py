import json

import pytest

from fgclip_det.datasets.annotation_files import read_annotations, summarize

IMAGE = {"id": 7, "file_name": "7.jpg", "width": 40, "height": 30}
BOX = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 10, 12], "area": 120, "iscrowd": 0}
CATEGORY = {"id": 3, "name": "cow"}


def values(**changes):
    entry = {
        "info": {"year": 2017},
        "images": [IMAGE],
        "annotations": [BOX],
        "categories": [CATEGORY],
    }
    return {**entry, **changes}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "instances.json"


def test_reads_lists_and_head(path):
    path.write_text(json.dumps(values(categories=[CATEGORY, {"id": 1, "name": "ant"}])))
    file = read_annotations(path)
    assert file.images == [IMAGE] and file.annotations == [BOX]
    assert [category["name"] for category in file.categories] == ["ant", "cow"]
    assert file.head == {"info": {"year": 2017}} and file.path == path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no complete JSON"),
        (json.dumps(values())[:150], "no complete JSON .*truncated"),
        ("[" * 100_000, "no complete JSON"),
        ("[1, 2]", "no COCO detection file .it holds a list"),
        ('{"a": 1}', "no COCO detection file: it has no list 'images'"),
        (json.dumps(values(annotations={"1": BOX})), "no list 'annotations'"),
        (json.dumps(values(categories=["cow"])), "no list 'categories'"),
    ],
    ids=lambda text: text[:12],
)
def test_what_is_no_annotation_file_is_named(path, text, message):
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_annotations(path)


def test_a_file_without_annotations_where_it_will_do(path):
    path.write_text(json.dumps({"images": [IMAGE], "categories": [CATEGORY]}))
    file = read_annotations(path, unlabelled=True)
    assert file.images == [IMAGE] and file.annotations == []
    with pytest.raises(ValueError, match="no list 'annotations'"):
        read_annotations(path)


def test_unreadable_files_are_named(path, tmp_path):
    with pytest.raises(ValueError, match=r"instances\.json' cannot be read \(No such file"):
        read_annotations(path)
    with pytest.raises(ValueError, match=r"cannot be read \(Is a directory"):
        read_annotations(tmp_path)
    path.write_bytes(b"\x1f\x8b\x08\x00\xff")
    with pytest.raises(ValueError, match="is no text"):
        read_annotations(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [IMAGE, IMAGE]}, "two entries bear the image id 7"),
        ({"annotations": [BOX, BOX]}, "two entries bear the annotation id 1"),
        ({"categories": [CATEGORY, CATEGORY]}, "two entries bear the category id 3"),
        ({"categories": [{"id": "3", "name": "cow"}]}, "category number 0 has the id '3'"),
        ({"categories": [{"id": 3}]}, "category 3 has no 'name'"),
        ({"images": [{**IMAGE, "file_name": ""}]}, "image 7 has no 'file_name'"),
        ({"images": [{**IMAGE, "width": 0}]}, "image 7 has the width 0"),
        ({"images": [{**IMAGE, "height": None}]}, "image 7 has the height None"),
        ({"annotations": [{**BOX, "image_id": 8}]}, "annotation 1 has the image_id 8"),
        ({"annotations": [{**BOX, "category_id": 4}]}, "annotation 1 has the category_id 4"),
        (
            {"annotations": [{"id": 1, "image_id": 7, "category_id": 3, "caption": "a cow"}]},
            "annotation 1 has the bbox None",
        ),
        ({"annotations": [{**BOX, "bbox": [1, 2, 3]}]}, r"has the bbox \[1, 2, 3\]"),
        ({"annotations": [{**BOX, "bbox": [1, 2, 3, float("nan")]}]}, "holds NaN"),
        ({"annotations": [{**BOX, "bbox": [1, 2, 3, float("inf")]}]}, "holds Infinity"),
        ({"annotations": [{**BOX, "bbox": [1, 2, 3, 10**400]}]}, "beyond a float64"),
        ({"annotations": [{**BOX, "bbox": [1, 2, 3, 10**300]}]}, "has the bbox"),
        (
            {"annotations": [{**BOX, "id": 2**63}]},
            "has the id 9223372036854775808",
        ),
        ({"annotations": [{**BOX, "area": "120"}]}, "has the area '120'"),
    ],
)
def test_broken_entries_are_named(path, changes, message):
    path.write_text(json.dumps(values(**changes)))
    with pytest.raises(ValueError, match=message) as caught:
        read_annotations(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("box", "area", "kind"),
    [
        ([0, 0, 40, 30], 1200, None),
        ([-0.5, 0, 40, 30.9], 1200, None),
        ([30, 20, 15, 5], 75, "1 over the border of the image"),
        ([-2, 0, 5, 5], 25, "1 over the border of the image"),
        ([5, 5, 0, 8], 8, "1 without area in the image"),
        ([5, 5, 8, -1], 8, "1 without area in the image"),
        ([5, 5, 8, 8], 0, "1 without area in the image"),
        ([40, 5, 8, 8], 64, "1 without area in the image"),
    ],
)
def test_odd_boxes_pass_and_are_counted(path, box, area, kind):
    path.write_text(json.dumps(values(annotations=[{**BOX, "bbox": box, "area": area}])))
    file = read_annotations(path)
    assert file.annotations[0]["bbox"] == box
    lists = {k: getattr(file, k) for k in ("images", "annotations", "categories")}
    oddity = f" ({kind}, kept)" if kind else ""
    assert summarize(file, lists, {"base": {3}}) == (
        f"1 images (1 with boxes), 1 categories, 1 boxes{oddity}; base: 1 boxes of 1 of 1 classes"
    )
