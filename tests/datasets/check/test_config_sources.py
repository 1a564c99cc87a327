"""Data of MMDetection's kinds are checked as they will be read, and others are left alone."""

from __future__ import annotations

import json

import pytest
from mmdet.registry import DATASETS
from mmengine.registry import init_default_scope
from PIL import Image

from fgclip_det.datasets.check import DataSource, check_source, sources_of

LOAD = dict(type="LoadImageFromFile")


def found(kind: str = "CocoDataset", **kwargs) -> list[DataSource]:
    init_default_scope("mmdet")
    dataset = dict(type=kind, ann_file="a.json", pipeline=[LOAD], **kwargs)
    return sources_of(dict(train_dataloader=dict(dataset=dataset)))


@pytest.mark.parametrize("kind", ["CocoDataset", "CityscapesDataset", "LVISV1Dataset"])
def test_kinds_with_files_like_coco(kind: str) -> None:
    assert [one.ann_file for one in found(kind)] == ["a.json"]


@pytest.mark.parametrize("kind", ["CocoPanopticDataset", "LVISV05Dataset", "Objects365V2Dataset"])
def test_kinds_that_read_their_files_otherwise(kind: str) -> None:
    assert found(kind) == []


def test_kinds_of_others() -> None:
    coco = DATASETS.get("CocoDataset")
    Named = type("Named", (coco,), {"METAINFO": {"classes": ("ant",)}})
    Own = type("Own", (coco,), {"load_data_list": lambda self: []})

    assert len(found(Named)) == 1 and found(Own) == []


@pytest.mark.parametrize(
    ("loader", "is_checked"),
    [
        (dict(backend_args=dict(backend="lmdb", db_path="a")), False),
        (dict(file_client_args=dict(backend="petrel")), False),
        (dict(backend_args=None), True),
        (dict(backend_args=dict(backend="local")), True),
        (dict(type="LoadMultiChannelImageFromFiles"), False),
    ],
)
def test_where_the_pictures_are_is_told_by_the_loader(loader: dict, is_checked: bool) -> None:
    nested = [dict(type="RandomApply", transforms=[{**LOAD, **loader}])]
    for pipeline in ([{**LOAD, **loader}], nested):
        dataset = dict(type="OVCocoDataset", ann_file="a.json", pipeline=pipeline)
        config = dict(train_dataloader=dict(dataset=dataset))
        assert len(sources_of(config)) == is_checked
    assert len(found(backend_args=loader.get("backend_args"))) == (
        loader.get("backend_args") is None or is_checked
    )


def test_captions_without_a_folder_are_left_to_their_data_set() -> None:
    dataset = dict(type="RegionCaptionDataset", ann_file="a.jsonl")
    assert sources_of(dict(train_dataloader=dict(dataset=dataset))) == []


@pytest.mark.parametrize("backend", ["cv2", "pillow"])
@pytest.mark.parametrize("color_type", ["color", "color_ignore_orientation"])
@pytest.mark.parametrize("kind", ["CocoDataset", "OVCocoDataset"])
def test_sizes_are_those_that_the_data_set_reads(tmp_path, kind, color_type, backend) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "1.jpg", exif=exif)
    loader = {**LOAD, "color_type": color_type, "imdecode_backend": backend}
    dataset = dict(
        type=kind,
        ann_file=str(tmp_path / "a.json"),
        data_prefix=dict(img=str(tmp_path)),
        pipeline=[loader],
    )
    sizes = {(30, 20), (20, 30)}
    init_default_scope("mmdet")
    given = (
        {"vocabulary": "ant"} if kind == "OVCocoDataset" else {"metainfo": {"classes": ("ant",)}}
    )
    for width, height in sizes:
        values = {
            "images": [{"id": 1, "file_name": "1.jpg", "width": width, "height": height}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 9, 8]}],
            "categories": [{"id": 1, "name": "ant"}],
        }
        values["annotations"][0].update(area=72, iscrowd=0)
        (tmp_path / "a.json").write_text(json.dumps(values))
        (source,) = sources_of(dict(train_dataloader=dict(dataset=dataset)))
        built = DATASETS.build({**dataset, **given})
        try:
            fits = built[0]["ori_shape"] == (height, width)
        except ValueError:
            fits = False
        if fits:
            assert check_source(source) == []
        else:
            with pytest.raises(ValueError, match=r"1 pictures are annotated as .* EXIF entry"):
                check_source(source)


@pytest.mark.parametrize("odd", [3, "a", [1], None, True])
@pytest.mark.parametrize("key", ["data_prefix", "filter_cfg", "backend_args", "pipeline"])
def test_settings_of_another_type_are_left_to_the_data_set(key: str, odd: object) -> None:
    dataset = {"type": "OVCocoDataset", "ann_file": "a.json", key: odd}
    assert len(sources_of(dict(train_dataloader=dict(dataset=dataset)))) in (0, 1)
    assert sources_of(dict(train_dataloader=odd, val_dataloader=dict(dataset=odd))) == []
