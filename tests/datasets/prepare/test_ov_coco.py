import importlib.util
import json
import shutil
from pathlib import Path

import mmdet
import pytest
import torch
from mmdet.registry import DATASETS, METRICS

import fgclip_det.datasets
import fgclip_det.evaluation  # noqa: F401  (both register)
from fgclip_det.datasets.prepare.ov_coco import coco_names, ov_coco_files
from fgclip_det.datasets.prepare.prepared_files import write_files
from fgclip_det.vocabulary import Vocabulary

# name:id as published (OVR-CNN), typed from there and not from the package's lists.
BASE = """person:1 bicycle:2 car:3 motorcycle:4 train:7 truck:8 boat:9 bench:15 bird:16 horse:19
sheep:20 bear:23 zebra:24 giraffe:25 backpack:27 handbag:31 suitcase:33 frisbee:34 skis:35 kite:38
surfboard:42 bottle:44 fork:48 spoon:50 bowl:51 banana:52 apple:53 sandwich:54 orange:55 broccoli:56
carrot:57 pizza:59 donut:60 chair:62 bed:65 toilet:70 tv:72 laptop:73 mouse:74 remote:75
microwave:78 oven:79 toaster:80 refrigerator:82 book:84 clock:85 vase:86 toothbrush:90"""
NOVEL = """airplane:5 bus:6 cat:17 dog:18 cow:21 elephant:22 umbrella:28 tie:32 snowboard:36
skateboard:41 cup:47 knife:49 cake:61 couch:63 keyboard:76 sink:81 scissors:87"""
NOVEL_LABELS = [4, 5, 11, 12, 15, 16, 21, 23, 27, 29, 32, 34, 45, 47, 54, 58, 63]


def table(text):
    return {int(number): name for name, number in (entry.split(":") for entry in text.split())}


BASE, NOVEL = table(BASE), table(NOVEL)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def sources(generated_coco):
    folder = generated_coco / "annotations"
    return {split: read(folder / f"instances_{split}2017.json") for split in ("train", "val")}


@pytest.fixture(scope="module")
def out(generated_coco, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    write_files(folder, ov_coco_files(generated_coco, images=generated_coco))
    return folder


def build(root, ann_file, **kwargs):
    arguments = dict(vocabulary="ov_coco", data_root=str(root), ann_file=str(ann_file))
    return DATASETS.build(dict(type="OVCocoDataset", **{**arguments, **kwargs}))


def test_names_and_ids_are_the_published_ones():
    assert len(BASE) == 48 and len(NOVEL) == 17
    names = coco_names()
    assert tuple(names.values()) == DATASETS.get("CocoDataset").METAINFO["classes"]
    assert list(names) == sorted(names) and names[1] == "person" and names[90] == "toothbrush"
    assert {**BASE, **NOVEL}.items() <= names.items()


def test_all_files_are_made(out):
    assert {path.name for path in out.iterdir()} == {
        "ov_coco_65_train.json",
        "ov_coco_65_val.json",
        "ov_coco_80_train.json",
        "ov_coco_80_val_base.json",
        "ov_coco_80_val_novel.json",
        "ov_coco_80_vocabulary.json",
    }


@pytest.mark.parametrize(("split", "kept"), [("train", BASE), ("val", {**BASE, **NOVEL})])
def test_65_way_keeps_images_with_a_kept_annotation(out, sources, split, kept):
    made, source = read(out / f"ov_coco_65_{split}.json"), sources[split]
    annotations = [a for a in source["annotations"] if a["category_id"] in kept]
    assert made["annotations"] == annotations
    with_boxes = {a["image_id"] for a in annotations}
    assert made["images"] == [i for i in source["images"] if i["id"] in with_boxes]
    assert 0 < len(made["images"]) < len(source["images"])
    everything = {**BASE, **NOVEL}
    found = [(c["id"], c["name"]) for c in made["categories"]]
    assert found == sorted(everything.items())
    positions = [i for i, (number, _) in enumerate(found) if number in NOVEL]
    assert positions == NOVEL_LABELS
    assert made["licenses"] == source["licenses"]


def test_65_way_equals_the_converter_of_mmdet(generated_coco, out, tmp_path):
    path = Path(mmdet.__file__).parent / ".mim/tools/dataset_converters/coco2ovd.py"
    spec = importlib.util.spec_from_file_location("coco2ovd", path)
    converter = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(converter)
    shutil.copytree(generated_coco / "annotations", tmp_path / "annotations")
    converter.coco2ovd(type("Arguments", (), {"data_root": str(tmp_path)}))
    for ours, theirs in (("train", "train2017_seen_2"), ("val", "val2017_all_2")):
        made = read(out / f"ov_coco_65_{ours}.json")
        expected = read(tmp_path / "annotations" / f"instances_{theirs}.json")
        assert made["images"] == expected["images"]
        assert made["annotations"] == expected["annotations"]


@pytest.mark.parametrize(
    ("name", "split", "kept"),
    [("train", "train", BASE), ("val_base", "val", BASE), ("val_novel", "val", NOVEL)],
)
def test_80_way_keeps_all_images_and_categories(out, sources, name, split, kept):
    made, source = read(out / f"ov_coco_80_{name}.json"), sources[split]
    assert made["images"] == source["images"]
    assert [c["id"] for c in made["categories"]] == list(coco_names())
    expected = [a for a in source["annotations"] if a["category_id"] in kept]
    assert made["annotations"] == expected and expected


def test_80_way_vocabulary_has_the_groups(out):
    vocabulary = Vocabulary.parse(str(out / "ov_coco_80_vocabulary.json"))
    assert vocabulary.names == tuple(coco_names().values())
    assert vocabulary.base_classes == tuple(BASE.values())
    assert vocabulary.novel_classes == tuple(NOVEL.values())
    assert vocabulary.templates == Vocabulary.parse("ov_coco").templates
    assert vocabulary.prompts == Vocabulary.parse("coco").prompts


def test_crowds_and_boxes_without_area_stay(out, sources):
    source = [a for a in sources["train"]["annotations"] if a["category_id"] in BASE]
    odd = [a for a in source if a["iscrowd"] or a["area"] == 0]
    assert {bool(a["iscrowd"]) for a in odd} == {True, False}
    for name in ("ov_coco_65_train.json", "ov_coco_80_train.json"):
        made = read(out / name)["annotations"]
        assert all(annotation in made for annotation in odd)


def test_the_dataset_reads_the_files(generated_coco, out):
    pipeline = [
        dict(type="mmdet.LoadImageFromFile"),
        dict(type="mmdet.LoadAnnotations", with_bbox=True),
        dict(type="mmdet.PackDetInputs"),
    ]
    train = build(
        generated_coco,
        out / "ov_coco_65_train.json",
        classes="base",
        data_prefix=dict(img="train2017/"),
        pipeline=pipeline,
        check_images=True,
    )
    made = read(out / "ov_coco_65_train.json")
    trained_on = {a["image_id"] for a in made["annotations"] if not a["iscrowd"] and a["area"] > 0}
    assert {train.get_data_info(i)["img_id"] for i in range(len(train))} == trained_on
    assert len(trained_on) == len(made["images"]) - 1  # one image has nothing but a crowd
    item = train[0]
    record = item["data_samples"]
    assert item["inputs"].shape[1:] == record.ori_shape
    assert min(record.ori_shape) >= 300 and max(record.ori_shape) <= 640
    assert len(record.gt_instances) > 0

    val = build(
        generated_coco,
        out / "ov_coco_65_val.json",
        data_prefix=dict(img="val2017/"),
        test_mode=True,
    )
    assert val.cat_ids == sorted({**BASE, **NOVEL})
    labels = [val.metainfo["classes"].index(name) for name in val.metainfo["novel_classes"]]
    assert labels == NOVEL_LABELS
    assert len(val) == len(read(out / "ov_coco_65_val.json")["images"])


def test_the_dataset_reads_the_80_way_files(generated_coco, out):
    vocabulary = str(out / "ov_coco_80_vocabulary.json")
    options = dict(vocabulary=vocabulary, data_prefix=dict(img="val2017/"), test_mode=True)
    val = build(generated_coco, out / "ov_coco_80_val_novel.json", **options)
    assert val.cat_ids == list(coco_names()) and len(val) == 20
    boxes = [box for i in range(len(val)) for box in val.get_data_info(i)["instances"]]
    names = {val.metainfo["classes"][box["bbox_label"]] for box in boxes}
    assert names <= set(NOVEL.values()) and len(names) > 5


@pytest.mark.parametrize(
    ("name", "vocabulary", "expected"),
    [
        ("65_val", "ov_coco", (100, 0)),
        ("80_val_base", "ov_coco_80_vocabulary.json", (100, -1)),
        ("80_val_novel", "ov_coco_80_vocabulary.json", (-1, 0)),
    ],
)
def test_a_detector_that_knows_base_classes_only(generated_coco, out, name, vocabulary, expected):
    """Perfect on base classes, blind to novel ones; crowds must cost it nothing."""
    ann_file = str(out / f"ov_coco_{name}.json")
    vocabulary = str(out / vocabulary) if "json" in vocabulary else vocabulary
    options = dict(vocabulary=vocabulary, data_prefix=dict(img="val2017/"), test_mode=True)
    dataset = build(generated_coco, ann_file, **options)
    base = {dataset.metainfo["classes"].index(n) for n in dataset.metainfo["base_classes"]}
    metric = METRICS.build(dict(type="OVCocoMetric", ann_file=ann_file))
    metric.dataset_meta = dataset.metainfo
    for record in (dataset.get_data_info(i) for i in range(len(dataset))):
        found = [box for box in record["instances"] if box["bbox_label"] in base]
        instances = {
            "bboxes": torch.tensor([box["bbox"] for box in found]).reshape(-1, 4),
            "scores": torch.full((len(found),), 0.5),
            "labels": torch.tensor([box["bbox_label"] for box in found], dtype=torch.long),
        }
        shape = (record["height"], record["width"])
        sample = {"pred_instances": instances, "img_id": record["img_id"], "ori_shape": shape}
        metric.process({}, [sample])
    metrics = metric.evaluate(len(dataset))
    assert (metrics["AP50_base"], metrics["AP50_novel"]) == pytest.approx(expected)


@pytest.mark.parametrize(("protocols", "count"), [([65], 2), ([80], 4), ([65, 80], 6)])
def test_protocols_are_made_one_by_one(generated_coco, out, tmp_path, protocols, count):
    write_files(tmp_path, ov_coco_files(generated_coco, protocols))
    assert len(list(tmp_path.iterdir())) == count
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (out / path.name).read_bytes()


def test_summaries_count_what_is_kept(generated_coco, out, sources):
    files = {file.name: file.summary for file in ov_coco_files(generated_coco)}
    source = [a for a in sources["train"]["annotations"] if a["category_id"] in BASE]
    with_boxes = len({a["image_id"] for a in source})
    classes = len({a["category_id"] for a in source})
    assert files["ov_coco_80_train.json"] == (
        f"30 images ({with_boxes} with boxes), 80 categories, {len(source)} boxes (1 of crowds, "
        f"1 without area in the image, kept); base: {len(source)} boxes of "
        f"{classes} of 48 classes; novel: 0 boxes of 0 of 17 classes"
    )
    assert files["ov_coco_80_vocabulary.json"] == "80 names, 48 base, 17 novel"


def changed(generated_coco, tmp_path, split, change):
    """A copy of the annotations, one of them changed."""
    shutil.copytree(generated_coco / "annotations", tmp_path / "annotations")
    path = tmp_path / "annotations" / f"instances_{split}2017.json"
    values = read(path)
    change(values)
    path.write_text(json.dumps(values))
    return tmp_path


def swap_names(values):
    person, bicycle = values["categories"][:2]
    person["name"], bicycle["name"] = bicycle["name"], person["name"]


def number_from_one(values):
    new = {c["id"]: i for i, c in enumerate(values["categories"], start=1)}
    for category in values["categories"]:
        category["id"] = new[category["id"]]
    for annotation in values["annotations"]:
        annotation["category_id"] = new[annotation["category_id"]]


def drop_category(values):
    values["categories"] = [c for c in values["categories"] if c["id"] != 90]
    values["annotations"] = [a for a in values["annotations"] if a["category_id"] != 90]


def drop_base(values):
    values["annotations"] = [
        a for a in values["annotations"] if a["category_id"] not in BASE or a.get("iscrowd")
    ]


def drop_novel(values):
    values["annotations"] = [a for a in values["annotations"] if a["category_id"] not in NOVEL]


@pytest.mark.parametrize(
    ("split", "change", "message"),
    [
        ("train", swap_names, r"category id 1 is 'bicycle', but is 'person' in COCO 2017"),
        ("val", number_from_one, r"category id 12 is 'stop sign', but does not exist in COCO 2017"),
        ("train", drop_category, r"category id 90 is missing, but is 'toothbrush' in COCO 2017"),
        ("train", drop_base, r"has no box of a base class: nothing is left for the train file"),
        ("val", drop_novel, r"has no box of a novel class: nothing is left for the val_novel file"),
    ],
)
def test_what_is_no_coco_2017_is_named(generated_coco, tmp_path, split, change, message):
    root = changed(generated_coco, tmp_path, split, change)
    with pytest.raises(ValueError, match=message):
        write_files(tmp_path / "out", ov_coco_files(root))
    assert list((tmp_path / "out").iterdir()) == []


def test_user_errors_before_anything_is_read(generated_coco, tmp_path):
    with pytest.raises(ValueError, match="no protocol 48: choose 65 or 80"):
        ov_coco_files(generated_coco, [48])
    with pytest.raises(ValueError, match=r"no folder '.*none': give the one that holds anno"):
        ov_coco_files(tmp_path / "none")
    with pytest.raises(ValueError, match=r"no folder '.*annotations'"):
        ov_coco_files(tmp_path)
    (tmp_path / "annotations").mkdir()
    with pytest.raises(ValueError, match=r"no annotation file '.*instances_val2017\.json'"):
        ov_coco_files(tmp_path)


def test_missing_images_stop_before_a_file_is_in_place(generated_coco, tmp_path):
    images = tmp_path / "images"
    for split in ("train2017", "val2017"):
        shutil.copytree(generated_coco / split, images / split)
    first = sorted((images / "train2017").iterdir())[0]
    first.unlink()
    with pytest.raises(ValueError, match=f"1 of 30 images are missing, the first: '.*{first.name}"):
        write_files(tmp_path / "out", ov_coco_files(generated_coco, [80], images))
    assert list((tmp_path / "out").iterdir()) == []
