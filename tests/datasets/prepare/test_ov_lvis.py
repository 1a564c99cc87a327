import json
import shutil

import pytest
from mmdet.registry import DATASETS

from fgclip_det.datasets.prepare.ov_lvis import ov_lvis_files
from fgclip_det.datasets.prepare.prepared_files import write_files
from fgclip_det.vocabulary import Vocabulary


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def sources(generated_coco):
    folder = generated_coco / "annotations"
    return {split: read(folder / f"lvis_v1_{split}.json") for split in ("train", "val")}


@pytest.fixture(scope="module")
def out(generated_coco, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared_lvis")
    write_files(folder, ov_lvis_files(generated_coco, images=generated_coco))
    return folder


def test_training_keeps_frequent_and_common_annotations_and_all_images(out, sources):
    made, source = read(out / "ov_lvis_train.json"), sources["train"]
    rare = {c["id"] for c in source["categories"] if c["frequency"] == "r"}
    expected = [a for a in source["annotations"] if a["category_id"] not in rare]
    assert made["annotations"] == expected
    assert 0 < len(expected) < len(source["annotations"])
    assert [image["id"] for image in made["images"]] == [image["id"] for image in source["images"]]
    assert [c["id"] for c in made["categories"]] == list(range(1, 1204))


def test_validation_keeps_all_and_tells_each_image_apart(out, sources):
    made, source = read(out / "ov_lvis_val.json"), sources["val"]
    assert made["annotations"] == source["annotations"]
    folders = {image["file_name"].split("/")[0] for image in made["images"]}
    assert folders == {"train2017", "val2017"}
    for image, original in zip(made["images"], source["images"], strict=True):
        assert original["coco_url"].endswith("/" + image["file_name"])
        assert {k: v for k, v in image.items() if k != "file_name"} == original


def test_names_are_mended_and_wordings_clean(out, sources):
    names = DATASETS.get("LVISV1Dataset").METAINFO["classes"]
    assert sources["train"]["categories"][654]["name"] == "speaker_(stero_equipment)"
    for split in ("train", "val"):
        made = read(out / f"ov_lvis_{split}.json")["categories"]
        assert tuple(category["name"] for category in made) == names
    vocabulary = Vocabulary.parse(str(out / "ov_lvis_vocabulary.json"))
    assert vocabulary.names == names
    assert vocabulary.prompts[0] == ("aerosol can",)
    assert vocabulary.prompts[654] == ("speaker (stereo equipment)",)
    frequencies = {c["name"]: c["frequency"] for c in made}
    assert len(vocabulary.base_classes) == 866 and len(vocabulary.novel_classes) == 337
    assert {frequencies[name] for name in vocabulary.base_classes} == {"f", "c"}
    assert {frequencies[name] for name in vocabulary.novel_classes} == {"r"}


def test_the_dataset_reads_the_files(generated_coco, out):
    vocabulary = str(out / "ov_lvis_vocabulary.json")
    arguments = dict(
        type="OVCocoDataset",
        vocabulary=vocabulary,
        data_root=str(generated_coco),
        data_prefix=dict(img=""),
        check_images=True,
    )
    train = DATASETS.build(
        {**arguments, "ann_file": str(out / "ov_lvis_train.json"), "classes": "base"}
    )
    assert len(train.metainfo["classes"]) == 866 and len(train) > 10
    val = DATASETS.build(
        {**arguments, "ann_file": str(out / "ov_lvis_val.json"), "test_mode": True}
    )
    assert val.cat_ids == list(range(1, 1204)) and len(val) == 23


def rename(values):
    values["categories"][2]["name"] = "aeroplane"


def unknown_frequency(values):
    del values["categories"][4]["frequency"]


def other_sizes(values):
    next(c for c in values["categories"] if c["frequency"] == "r")["frequency"] = "c"


def version_half(values):
    values["categories"].append({"id": 1204, "name": "zyzzyva", "frequency": "f"})


def no_url(values):
    del values["images"][0]["coco_url"]


def only_rare(values):
    rare = next(c["id"] for c in values["categories"] if c["frequency"] == "r")
    for annotation in values["annotations"]:
        annotation["category_id"] = rare


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename, "category id 3 is 'aeroplane', but is 'airplane' in LVIS v1"),
        (unknown_frequency, "category id 5 has the frequency None: 'f', 'c' or 'r' is needed"),
        (
            other_sizes,
            "has 867 frequent and common and 336 rare categories, LVIS v1 has 866 and 337",
        ),
        (version_half, "category id 1204 is 'zyzzyva', but does not exist in LVIS v1"),
        (no_url, "image .* has no 'coco_url'"),
        (only_rare, "has no box of a base class: nothing is left for the train file"),
    ],
)
def test_what_is_no_lvis_v1_is_named(generated_coco, tmp_path, change, message):
    shutil.copytree(generated_coco / "annotations", tmp_path / "annotations")
    path = tmp_path / "annotations" / "lvis_v1_train.json"
    values = read(path)
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message):
        write_files(tmp_path / "out", ov_lvis_files(tmp_path))
    assert list((tmp_path / "out").iterdir()) == []


def test_missing_sources_and_images_are_named(generated_coco, tmp_path):
    with pytest.raises(ValueError, match=r"no folder '.*annotations': .*lvis_v1_train\.json"):
        ov_lvis_files(tmp_path)
    (tmp_path / "annotations").mkdir()
    with pytest.raises(ValueError, match=r"no annotation file '.*lvis_v1_train\.json'"):
        ov_lvis_files(tmp_path)
    with pytest.raises(ValueError, match=r"27 of 27 images are missing, .*train2017"):
        write_files(tmp_path / "out", ov_lvis_files(generated_coco, images=tmp_path))
