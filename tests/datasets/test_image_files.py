import os
import shutil

import pytest
from mmdet.registry import DATASETS

from fgclip_det.datasets import check_images
from fgclip_det.datasets.image_files import check_image_paths


@pytest.fixture
def root(generated_coco, tmp_path):
    for folder in ("val2017", "annotations"):
        shutil.copytree(generated_coco / folder, tmp_path / folder)
    return tmp_path


def build(root, **kwargs):
    arguments = dict(
        type="OVCocoDataset",
        vocabulary="ov_coco",
        data_root=str(root),
        ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017/"),
    )
    return DATASETS.build({**arguments, **kwargs})


def test_a_file_and_a_dataset_with_all_images_pass(root):
    annotations = root / "annotations" / "instances_val2017.json"
    assert check_images(annotations, root / "val2017") == 20
    assert check_images(str(annotations), str(root / "val2017")) == 20
    assert check_images(build(root, test_mode=True)) == 20
    assert len(build(root, test_mode=True, check_images=True)) == 20
    trained_on = build(root, check_images=True)
    assert check_images(trained_on) == len(trained_on) < 20


def test_missing_images_are_counted_and_named(root, monkeypatch):
    dataset = build(root, test_mode=True)
    names = [os.path.basename(dataset.get_data_info(i)["img_path"]) for i in range(20)]
    for name in names[3:8]:
        (root / "val2017" / name).unlink()
    first = (
        rf"5 of 20 images are missing, the first: '.*{names[3]}', '.*{names[4]}', '.*{names[5]}'"
    )
    with pytest.raises(ValueError, match=first):
        check_images(dataset)
    with pytest.raises(ValueError, match=first):
        build(root, test_mode=True, check_images=True)
    with pytest.raises(ValueError, match="5 of 20 images are missing"):
        check_images(root / "annotations" / "instances_val2017.json", root / "val2017")
    assert len(build(root, test_mode=True)) == 20


def test_a_missing_folder_misses_all(root):
    shutil.rmtree(root / "val2017")
    with pytest.raises(ValueError, match="20 of 20 images are missing"):
        build(root, test_mode=True, check_images=True)


def test_images_that_training_leaves_out_are_not_asked_for(root):
    dataset = build(root)
    used = {os.path.basename(dataset.get_data_info(i)["img_path"]) for i in range(len(dataset))}
    unused = [path for path in (root / "val2017").iterdir() if path.name not in used]
    assert unused
    unused[0].unlink()
    assert len(build(root, check_images=True)) == len(dataset)


def test_each_folder_is_listed_once(root, monkeypatch):
    listed = []
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: listed.append(folder) or real(folder))
    folder = str(root / "val2017")
    assert check_image_paths(os.path.join(folder, name) for name in real(folder)) == 20
    assert listed == [folder]


def test_user_errors(root):
    with pytest.raises(ValueError, match="needs the root folder"):
        check_images(root / "annotations" / "instances_val2017.json")
    with pytest.raises(ValueError, match=r"'s3://bucket/1\.jpg' is on no local disk"):
        check_image_paths(["s3://bucket/1.jpg"])
