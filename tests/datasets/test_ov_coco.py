import json
from pathlib import Path

import pytest
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from fgclip_det.datasets import OVCocoDataset
from fgclip_det.datasets.shapes.generator import generate

REPO = Path(__file__).resolve().parents[2]
NAMES = ["zebra", "ant", "cow", "bee"]
GROUPS = {"base": ["cow", "zebra"], "novel": ["ant", "bee"]}


@pytest.fixture
def root(tmp_path):
    """A file whose categories (ids 7, 3, 5, 1, and one that is not asked for) are shuffled."""
    ids = {"cow": 7, "bee": 3, "other": 9, "zebra": 5, "ant": 1}
    annotations = [
        (1, "zebra", [1, 2, 10, 12]),
        (1, "bee", [5, 5, 10, 10]),
        (2, "ant", [0, 0, 8, 8]),
        (3, "cow", [3, 3, 20, 20]),
        (3, "other", [3, 3, 20, 20]),
        (4, "cow", [3, 3, 0.5, 20]),
    ]
    data = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in range(1, 6)
        ],
        "annotations": [
            {
                "id": k,
                "image_id": image,
                "category_id": ids[name],
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            for k, (image, name, box) in enumerate(annotations)
        ],
        "categories": [{"id": i, "name": name} for name, i in ids.items()],
    }
    (tmp_path / "ann.json").write_text(json.dumps(data))
    vocabulary = {"names": NAMES, "templates": ["{}"], "groups": GROUPS}
    (tmp_path / "vocabulary.json").write_text(json.dumps(vocabulary))
    return tmp_path


def build(root, **kwargs):
    return DATASETS.build(
        dict(
            type="OVCocoDataset",
            **{
                "vocabulary": str(root / "vocabulary.json"),
                "data_root": str(root),
                "ann_file": "ann.json",
                "data_prefix": dict(img="images/"),
                **kwargs,
            },
        )
    )


def labels(dataset):
    """Image id -> names of its boxes."""
    classes = dataset.metainfo["classes"]
    records = [dataset.get_data_info(i) for i in range(len(dataset))]
    return {r["img_id"]: [classes[b["bbox_label"]] for b in r["instances"]] for r in records}


def test_labels_follow_the_vocabulary_and_not_the_file(root):
    dataset = build(root, test_mode=True)
    assert dataset.metainfo["classes"] == ("zebra", "ant", "cow", "bee")
    assert dataset.metainfo["base_classes"] == ("zebra", "cow")
    assert dataset.metainfo["novel_classes"] == ("ant", "bee")
    assert dataset.cat_ids == [5, 1, 7, 3]
    assert labels(dataset) == {1: ["zebra", "bee"], 2: ["ant"], 3: ["cow"], 4: [], 5: []}
    first = dataset.get_data_info(0)
    assert first["instances"][0]["bbox"] == [1, 2, 11, 14]
    assert first["img_path"] == str(root / "images" / "1.png")


def test_base_training_drops_novel_boxes_and_images_left_empty(root):
    dataset = build(root, classes="base")
    assert dataset.metainfo["classes"] == dataset.metainfo["base_classes"] == ("zebra", "cow")
    assert dataset.metainfo["novel_classes"] == ()
    assert labels(dataset) == {1: ["zebra"], 3: ["cow"]}
    kept = build(root, classes="base", filter_cfg=dict(filter_empty_gt=False))
    assert len(kept) == 5


def test_user_errors_name_the_value(root):
    with pytest.raises(ValueError, match="classes is 'novel'"):
        build(root, classes="novel")
    with pytest.raises(ValueError, match=r"no annotation file .*none\.json"):
        build(root, ann_file="none.json")
    (root / "other.json").write_text(json.dumps({"names": ["cow", "yak"], "templates": ["{}"]}))
    with pytest.raises(ValueError, match=r"1 of 2 vocabulary names .*ann\.json', .* 'yak'"):
        build(root, vocabulary=str(root / "other.json"))
    with pytest.raises(ValueError, match="base group"):
        build(root, vocabulary=str(root / "other.json"), classes="base")


def test_repeated_category_and_nothing_to_train_on(root):
    data = json.loads((root / "ann.json").read_text())
    data["annotations"] = []
    (root / "ann.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"no image of .* has a box"):
        build(root)
    data["categories"].append({"id": 100, "name": "cow"})
    (root / "ann.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"2 categories of .*ann\.json' are named 'cow'"):
        build(root)


@pytest.mark.parametrize(
    ("key", "changes", "message"),
    [
        ("annotations", {"id": 1}, "two entries bear the annotation id 1"),
        ("annotations", {"category_id": 2}, "annotation 0 has the category_id 2, which the file"),
        ("annotations", {"image_id": 9}, "annotation 0 has the image_id 9, which the file"),
        ("annotations", {"bbox": [1, 2, float("nan"), 4]}, "NaN"),
        ("annotations", {"bbox": None}, "annotation 0 has the bbox None"),
        ("annotations", {"area": None}, "annotation 0 has the area None"),
        ("images", {"width": None}, "image 1 has the width None"),
        ("images", {"file_name": None}, "image 1 has no 'file_name'"),
        ("categories", {"name": 3}, "category 7 has no 'name'"),
    ],
)
def test_a_broken_entry_stops_it_and_is_named(root, key, changes, message):
    data = json.loads((root / "ann.json").read_text())
    data[key][0].update(changes)
    (root / "ann.json").write_text(json.dumps(data))
    for test_mode in (False, True):
        with pytest.raises(ValueError, match=message) as caught:
            build(root, test_mode=test_mode)
        assert str(root / "ann.json") in str(caught.value)


@pytest.mark.parametrize("text", ["[]", '{"images": [', '{"images": [], "annotations": []}'])
def test_what_is_no_annotation_file_stops_it_and_is_named(root, text):
    (root / "ann.json").write_text(text)
    with pytest.raises(ValueError, match=r"ann\.json' is no "):
        build(root)


def test_a_file_without_annotations_is_one_to_test_on(root):
    data = json.loads((root / "ann.json").read_text())
    del data["annotations"]
    (root / "ann.json").write_text(json.dumps(data))
    assert labels(build(root, test_mode=True)) == {number: [] for number in range(1, 6)}
    with pytest.raises(ValueError, match=r"no image of .* has a box"):
        build(root)


def test_base_config_reads_shapes(tmp_path):
    generate(tmp_path, {"train": 4, "val": 4}, seed=0)
    config = Config.fromfile(REPO / "configs/_base_/shapes_detection.py")
    for loader, num_classes in ((config.train_dataloader, 144), (config.val_dataloader, 192)):
        arguments = {
            **loader.dataset,
            "data_root": str(tmp_path),
            "vocabulary": str(tmp_path / "vocabulary.json"),
        }
        with DefaultScope.overwrite_default_scope("mmdet"):
            dataset = DATASETS.build(arguments)
        assert isinstance(dataset, OVCocoDataset)
        assert len(dataset.metainfo["classes"]) == num_classes
        assert len(dataset) == 4
        item = dataset[0]
        assert item["inputs"].shape == (3, 128, 128)
        assert item["data_samples"].scale_factor == (1.0, 1.0)
        boxes = item["data_samples"].gt_instances
        assert len(boxes) >= 1 and boxes.labels.max() < num_classes
        with Image.open(item["data_samples"].img_path) as image:
            assert image.size == (128, 128)
