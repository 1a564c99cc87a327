"""Data that cannot be what they claim to be stop, and what is merely odd is counted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmengine.registry import init_default_scope
from PIL import Image

from fgclip_det.datasets.check import DataSource, check_source, picture_headers

# Width and height of the pictures.
SIZES = [(300, 200), (200, 300), (240, 240), (320, 180)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    random = np.random.default_rng(0)
    for number, (width, height) in enumerate(SIZES):
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        suffix = "jpg" if number % 2 else "png"
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.{suffix}")
    (tmp_path / "annotations").mkdir()
    return tmp_path


def values() -> dict[str, Any]:
    """Eleven boxes; crowds, an image without a box, and boxes over the border by rounding."""
    images = [
        {"id": 10 + i, "file_name": f"{i}.{'jpg' if i % 2 else 'png'}", "width": w, "height": h}
        for i, (w, h) in enumerate(SIZES)
    ]
    rows = [(10, [10, 20, 200, 150]), (10, [0, 0, 301.5, 201]), (10, [150, 100, 40, 30])]
    rows += [(11, [100, 150, 50, 80]), (11, [90, 10, 20, 200]), (11, [5, 5, 9, 9])]
    rows += [(12, [-1, 100, 60, 60]), (12, [120, 120, 100, 100]), (12, [30, 60, 20, 20])]
    rows += [(11, [0, 280, 10, 20]), (12, [220, 0, 20, 10])]
    annotations = [
        {"id": i, "image_id": image, "category_id": 1 + i % 2, "bbox": box, "iscrowd": i % 5 == 4}
        for i, (image, box) in enumerate(rows)
    ]
    categories = [{"id": 1, "name": "ant"}, {"id": 2, "name": "bee"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def check(root: Path, content: dict[str, Any], **kwargs: Any) -> list[str]:
    path = root / "annotations" / "train.json"
    path.write_text(json.dumps(content))
    return check_source(DataSource(str(path), str(root / "images"), **kwargs))


def test_nothing_is_odd(root: Path) -> None:
    assert check(root, values()) == []


def corners(content: dict) -> None:
    for one in content["annotations"]:
        x, y, w, h = one["bbox"]
        one["bbox"] = [x, y, x + w, y + h]


def shares(content: dict) -> None:
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    for one in content["annotations"]:
        width, height = sizes[one["image_id"]]
        x, y, w, h = one["bbox"]
        one["bbox"] = [max(0, x / width), y / height, min(w / width, 1), min(h / height, 1)]


def nearly_shares(content: dict) -> None:
    shares(content)
    content["annotations"][3]["bbox"] = [100, 50, 40, 30]


def thousandths(content: dict) -> None:
    shares(content)
    for one in content["annotations"]:
        one["bbox"] = [500 + 1000 * value for value in one["bbox"]]


def swapped(content: dict) -> None:
    for image in content["images"]:
        image["width"], image["height"] = image["height"], image["width"]


def resized(content: dict) -> None:
    for image in content["images"]:
        image["width"], image["height"] = 2 * image["width"], 2 * image["height"]


def unnamed(content: dict) -> None:
    content["categories"][1]["name"] = " "


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (corners, r"of 11 boxes leave their picture .* fit as corners.*take x1, y1 off x2, y2"),
        (shares, r"11 of 11 boxes lie within 0 and 1.*multiply them by its width and height"),
        (nearly_shares, r"9 of 11 boxes lie outside their picture or are less than a pixel"),
        (thousandths, r"11 of 11 boxes lie outside their picture.*give x, y, width, height in pix"),
        (swapped, r"3 images have width and height swapped: such as '0\.png', 300 x 200 px, ann"),
        (resized, r"4 pictures are of another size than annotated.*take the pictures that were"),
        (unnamed, r"1 categories have an empty name, such as id 2: name them"),
    ],
)
def test_what_cannot_be(root: Path, spoil: Callable[[dict], None], message: str) -> None:
    content = values()
    spoil(content)
    with pytest.raises(ValueError, match=rf"train\.json': .*{message}.*--no-data-check") as error:
        check(root, content)
    assert "\n" not in str(error.value)
    # It is not remembered as good.
    with pytest.raises(ValueError, match=message):
        check(root, content)
    assert check(root, values()) == []


def test_annotations_of_turned_pictures(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    for path in (root / "images").iterdir():
        with Image.open(path) as image:
            image.load()
        image.save(path, exif=exif)
    assert check(root, values()) == []  # annotated as stored
    content = values()
    swapped(content)
    with pytest.raises(
        ValueError, match=r"3 pictures are annotated as viewers turn .*-auto-orient"
    ):
        check(root, content)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "'.*1.jpg' is missing"),
        (lambda path: path.write_bytes(b""), "'.*1.jpg' is empty: copy it again"),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "cannot be read .*truncated"),
        (lambda path: path.write_text("<html>"), "'.*1.jpg' is not a picture"),
    ],
)
def test_broken_pictures(root: Path, spoil: Callable[[Path], Any], message: str) -> None:
    assert check(root, values()) == []  # and it is remembered
    path = root / "images" / "1.jpg"
    whole = path.read_bytes()
    spoil(path)
    with pytest.raises(ValueError, match=rf"1 of 4 pictures cannot be read, .*{message}.*the fold"):
        check(root, values())
    path.write_bytes(whole)
    assert check(root, values()) == []
    # One without a box, which training leaves out.
    spoil(root / "images" / "3.jpg")
    with pytest.raises(ValueError, match="1 of 4 pictures cannot be read"):
        check(root, values())
    (odd,) = check(root, values(), needs_empty=False)
    assert odd.startswith("1 of 4 pictures that are left out anyway cannot be read")


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 5000, "../images", " "])
def test_names_that_no_picture_has(root: Path, name: str) -> None:
    content = values()
    content["images"][0]["file_name"] = name
    with pytest.raises(ValueError, match="1 of 4 pictures cannot be read") as error:
        check(root, content)
    assert "\n" not in str(error.value) and "\0" not in str(error.value)


def test_missing_pictures_may_be_left_out(root: Path) -> None:
    (root / "images" / "1.jpg").unlink()
    (odd,) = check(root, values(), skip_missing=True)
    assert "left out anyway" in odd and "1.jpg' is missing" in odd


def test_oddities_are_counted_with_an_example(root: Path) -> None:
    content = values()
    for number, box in ((0, [290, 10, 40, 20]), (3, [500, 10, 40, 20]), (5, [5, 5, 0, 9])):
        content["annotations"][number]["bbox"] = box
    content["annotations"][4]["bbox"] = [190, 10, 90, 20]  # a crowd
    del content["images"][3]["width"], content["images"][3]["height"]
    content["images"][2]["width"] = 239
    odd = check(root, content)
    assert odd == [
        "1 pictures are of another size than annotated: such as '2.png', 240 x 240 px, annotated "
        "with 239 x 240",
        "1 images have no width and height: those of the files count",
        "1 of 11 boxes lie outside their picture (training leaves them out): such as [500, 10, 40, "
        "20] (id 3) in '1.jpg' of 200 x 300 px",
        "1 of 11 boxes are less than a pixel wide or high (training leaves them out): such as [5, "
        "5, 0, 9] (id 5) in '1.jpg' of 200 x 300 px",
        "1 of 11 boxes reach more than 2 px over the border: such as [290, 10, 40, 20] (id 0) in "
        "'0.png' of 300 x 200 px",
    ]
    assert check(root, content) == odd  # remembered


def test_what_did_not_change_is_not_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    real = picture_headers.read_header
    monkeypatch.setattr(picture_headers, "read_header", lambda p: read.append(p) or real(p))
    check(root, values())
    assert len(read) == 4
    source = DataSource(str(root / "annotations" / "train.json"), str(root / "images"))
    assert check_source(source) == [] and len(read) == 4
    os.utime(root / "images" / "0.png", ns=(1, 1))
    assert check_source(source) == [] and len(read) == 5
    # Other annotations, the same pictures.
    content = values()
    content["categories"][0]["name"] = "anteater"
    assert check(root, content) == [] and len(read) == 5
    # Another folder.
    (root / "images").rename(root / "moved")
    assert check_source(DataSource(source.ann_file, str(root / "moved"))) == [] and len(read) == 5


def test_another_picture_of_the_same_size_and_time(root: Path) -> None:
    """As of an archive whose times were all set to one."""
    path = root / "images" / "2.png"
    Image.new("RGB", (240, 240)).save(path.with_suffix(".bmp"))
    content = values()
    content["images"][2]["file_name"] = "2.bmp"
    path = path.with_suffix(".bmp")
    before = path.stat()
    assert check(root, content) == []
    Image.new("RGB", (480, 120)).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert check(root, content)[0].startswith("1 pictures are of another size than annotated")


def test_annotations_that_change_while_they_are_checked(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = root / "annotations" / "train.json"
    content = values()
    swapped(content)
    real = picture_headers.read_header
    with monkeypatch.context() as patch:
        patch.setattr(
            picture_headers,
            "read_header",
            lambda name: path.write_text(json.dumps(content)) and real(name),
        )
        assert check(root, values()) == []
    with pytest.raises(ValueError, match="3 images have width and height swapped"):
        check_source(DataSource(str(path), str(root / "images")))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "fgclip_det/data_check", "version": 2, "pictures": 3}']
)
def test_a_broken_memory_is_no_harm(root: Path, text: str) -> None:
    check(root, values())
    (memory,) = (root / "annotations").glob("*.data_check")
    whole = memory.read_text()
    memory.write_text(text)
    source = DataSource(str(root / "annotations" / "train.json"), str(root / "images"))
    assert check_source(source) == [] and memory.read_text() == whole
    for key, wrong in (("pictures", {"0.png": [1]}), ("findings", 3), ("settings", None)):
        memory.write_text(json.dumps({**json.loads(whole), key: wrong}))
        assert check_source(source) == [] and memory.read_text() == whole


def test_where_nothing_can_be_written_nothing_is_remembered(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr("fgclip_det.datasets.check.remembered.write_json", refuse)
    assert check(root, values()) == [] and check(root, values()) == []
    assert [path.name for path in (root / "annotations").iterdir()] == ["train.json"]


def test_lines_with_regions(root: Path) -> None:
    line = {"file_name": "0.png", "width": 300, "height": 200, "short_caption": "a"}
    regions = [{"bbox": [10, 10, 50, 60], "caption": "b", "negatives": []}]
    path = root / "annotations" / "lines.jsonl"
    source = DataSource(str(path), str(root / "images"))
    path.write_text(json.dumps({**line, "regions": regions}) + "\n")
    assert check_source(source) == []
    regions[0]["bbox"] = [0.1, 0.1, 0.5, 0.6]
    path.write_text(json.dumps({**line, "regions": regions}) + "\n")
    with pytest.raises(ValueError, match=r"within 0 and 1.* \(id region 0 of line 1\)"):
        check_source(source)
    for broken in ([], {**line}, {**line, "regions": [{"bbox": [1, 2]}]}, {**line, "regions": 3}):
        path.write_text(json.dumps(broken))
        with pytest.raises(ValueError, match=r"not a caption record.*--no-data-check"):
            check_source(source)


def test_nothing_at_all(root: Path) -> None:
    empty = {**values(), "annotations": []}
    assert check(root, empty) == []
    assert check(root, {"images": [], "annotations": [], "categories": []}) == []


def test_a_size_and_an_area_that_are_missing_are_made(root: Path) -> None:
    content = values()
    for image in content["images"]:
        del image["width"], image["height"]
    path = root / "annotations" / "train.json"
    path.write_text(json.dumps(content))
    init_default_scope("mmdet")
    dataset = DATASETS.build(
        dict(
            type="OVCocoDataset",
            vocabulary="ant, bee",
            ann_file=str(path),
            data_prefix=dict(img=str(root / "images")),
            test_mode=True,
        )
    )
    infos = [dataset.get_data_info(i) for i in range(4)]
    assert [(info["width"], info["height"]) for info in infos] == SIZES
    assert [len(info["instances"]) for info in infos] == [3, 4, 4, 0]


@pytest.mark.parametrize("name", ["instances_train2017", "instances_val2017"])
def test_coco_as_published_is_no_alarm(generated_coco: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.json"
    path.write_bytes((generated_coco / "annotations" / path.name).read_bytes())
    odd = check_source(DataSource(str(path), str(generated_coco / name.partition("_")[2])))
    # One box of COCO has no height.
    assert ["less than a pixel" in text for text in odd] == [True] * name.endswith("train2017")
