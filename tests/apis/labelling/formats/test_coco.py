"""The COCO files, read back by pycocotools and by this package's dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pycocotools.coco import COCO

from fgclip_det.apis.labelling.formats import write_labels
from fgclip_det.apis.labelling.formats.splits import LabelSplits
from fgclip_det.datasets import OVCocoDataset
from tests.apis.labelling.formats.conftest import NAMES


def test_pycocotools_reads_it(splits: LabelSplits, tmp_path: Path) -> None:
    write_labels(tmp_path, ["coco"], splits)
    coco = COCO(str(tmp_path / "coco/annotations/train.json"))
    assert [one["name"] for one in coco.loadCats([1, 2, 3])] == NAMES
    assert [
        (one["file_name"], one["width"], one["height"]) for one in coco.loadImgs([1, 2, 3])
    ] == [
        ("a & b.png", 60, 40),
        ("deep/turned.jpg", 60, 40),
        ("same.jpg", 60, 40),
    ]
    first = coco.loadAnns(coco.getAnnIds(imgIds=1))
    assert [(one["category_id"], one["bbox"], one["score"]) for one in first] == [
        (1, [10.0, 5.0, 20.0, 20.0], 0.75),
        (3, [0.0, 0.0, 60.0, 40.0], 0.5),
    ]
    # Shown, the picture is 40 x 60, turned by a quarter: x as stored is y as shown.
    (turned,) = coco.loadAnns(coco.getAnnIds(imgIds=2))
    assert turned["bbox"] == [10, 40 - 14, 30, 10] and turned["area"] == 300
    assert coco.getAnnIds(imgIds=3) == []
    assert [one["id"] for one in coco.dataset["annotations"]] == [1, 2, 3]


def test_our_dataset_reads_it(splits: LabelSplits, tmp_path: Path) -> None:
    write_labels(tmp_path, ["coco"], splits)
    dataset = OVCocoDataset(
        vocabulary={name: [name] for name in NAMES},
        ann_file=str(tmp_path / "coco/annotations/train.json"),
        data_prefix=dict(img=str(splits.folder)),
        filter_cfg=dict(filter_empty_gt=False),
        check_images=True,
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="mmdet.LoadAnnotations", with_bbox=True, box_type=None),
        ],
    )
    assert len(dataset) == 3
    turned = dataset[1]
    assert turned["img"].shape[:2] == (40, 60)
    np.testing.assert_allclose(turned["gt_bboxes"], [[10, 26, 40, 36]])
    assert turned["gt_bboxes_labels"].tolist() == [1]


def test_the_same_labels_are_the_same_bytes(splits: LabelSplits, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one", "two")]
    for path in paths:
        path.mkdir()
        write_labels(path, ["coco"], splits)
    one, two = (path / "coco/annotations/train.json" for path in paths)
    assert one.read_bytes() == two.read_bytes()
