"""Broken, foreign and incomplete stock files: one line that names what to mend."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fgclip_det.encoders import load_encoder
from fgclip_det.evaluation.encoder import PROTOCOLS, evaluate_encoder
from fgclip_det.evaluation.encoder.present import without_missing

FILES = {
    "coco-retrieval": "annotations/captions_val2017.json",
    "flickr30k": "flickr30k_test.json",
    "sharegpt4v-1k": "share-captioner_coco_lcs_sam_1246k_1107.json",
    "coco-boxes": "annotations/instances_val2017.json",
    "lvis-boxes": "lvis_v1_val.json",
    "boxclass-cn": "valid_category_data_total_zh.json",
    "fg-ovd": "h_attributes_llava.jsonl",
    "lit-cn": "image_caption_long_cn.txt",
    "flickr30k-cna": "flickr30k_cna_test.txt",
    "coco-cn": "pair.txt",
}
JSON_FILES = [name for name, file in FILES.items() if file.endswith(".json")]


def refused(name: str, root: Path, *named: str, **options: Any) -> None:
    """The reader refuses in one line, which holds what is named."""
    with pytest.raises(ValueError) as caught:
        PROTOCOLS[name].record(root, **options)
    message = str(caught.value)
    assert "\n" not in message
    for part in named:
        assert part in message


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(change(values) or values), encoding="utf-8")


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_folder_of_another_data_set(name: str, tmp_path: Path) -> None:
    refused(name, tmp_path, str(tmp_path), "give the folder")
    refused(name, tmp_path / "nowhere", "nowhere", "no folder")
    (tmp_path / "file").touch()
    refused(name, tmp_path / "file", "no folder")
    refused(name, tmp_path, "no folder", images=tmp_path / "nowhere")


@pytest.mark.parametrize("name", [*JSON_FILES, "fg-ovd"])
def test_a_truncated_file(name: str, copy_set: Callable[[str], Path]) -> None:
    root = copy_set(name)
    path = root / FILES[name]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    refused(name, root, path.name, "truncated")
    path.write_bytes(b"")
    refused(name, root, path.name)


@pytest.mark.parametrize("name", ["lit-cn", "flickr30k-cna", "coco-cn"])
def test_a_truncated_text(name: str, copy_set: Callable[[str], Path]) -> None:
    root = copy_set(name)
    path = root / FILES[name]
    content = path.read_text(encoding="utf-8")
    path.write_text("", encoding="utf-8")
    refused(name, root, path.name)
    path.write_text(content[: content.rindex("\t" if name != "coco-cn" else " ") + 3])
    with pytest.warns(UserWarning, match="is it truncated"):
        PROTOCOLS[name].record(root)


def test_truncated_small_files(copy_set: Callable[[str], Path]) -> None:
    root = copy_set("dci")
    path = next((root / "densely_captioned_images" / "annotations").iterdir())
    path.write_text(path.read_text(encoding="utf-8")[:50], encoding="utf-8")
    refused("dci", root, path.name, "truncated")
    root = copy_set("urban-1k")
    path = next((root / "Urban1k" / "caption").iterdir())
    path.write_bytes(b"")
    refused("urban-1k", root, path.name, "empty")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("other", FILES)
@pytest.mark.filterwarnings("ignore:.* ends within a line")
def test_a_file_of_another_protocol(
    name: str, other: str, golden_sets: Path, tmp_path: Path
) -> None:
    """It is refused, or none of its pictures is found."""
    if name == other:
        return
    path = tmp_path / FILES[name]
    path.parent.mkdir(exist_ok=True)
    shutil.copy(golden_sets / other / FILES[other], path)
    with pytest.raises(ValueError) as caught:
        without_missing(PROTOCOLS[name].record(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("coco-retrieval", ("images", "annotations")),
        ("coco-boxes", ("images", "annotations", "categories")),
        ("lvis-boxes", ("images", "annotations", "categories")),
        ("boxclass-cn", ("images", "annotations", "categories")),
    ],
)
def test_missing_lists(name: str, keys: tuple[str, ...], copy_set: Callable[[str], Path]) -> None:
    root = copy_set(name)
    path = root / FILES[name]
    content = path.read_text(encoding="utf-8")
    for key in keys:
        for value in (None, {}, [], [1]):
            edit(path, lambda values, key=key, value=value: values.update({key: value}))
            refused(name, root, path.name, repr(key))
            path.write_text(content, encoding="utf-8")
        edit(path, lambda values, key=key: values.pop(key) and None)
        refused(name, root, path.name, repr(key))
        path.write_text(content, encoding="utf-8")


FIELDS = [
    ("coco-retrieval", "images", "file_name"),
    ("coco-retrieval", "annotations", "caption"),
    ("coco-retrieval", "annotations", "image_id"),
    ("flickr30k", None, "image"),
    ("flickr30k", None, "caption"),
    ("sharegpt4v-1k", None, "image"),
    ("sharegpt4v-1k", None, "conversations"),
    ("coco-boxes", "images", "file_name"),
    ("coco-boxes", "annotations", "bbox"),
    ("coco-boxes", "annotations", "category_id"),
    ("coco-boxes", "categories", "name"),
    ("lvis-boxes", "images", "coco_url"),
    ("boxclass-cn", "annotations", "image_id"),
]


@pytest.mark.parametrize(("name", "key", "field"), FIELDS)
def test_missing_fields(
    name: str, key: str | None, field: str, copy_set: Callable[[str], Path]
) -> None:
    root = copy_set(name)
    path = root / FILES[name]
    content = path.read_text(encoding="utf-8")
    for value in (None, 1.5, True, "absent"):

        def change(values: Any, value: Any = value) -> None:
            entry = (values if key is None else values[key])[3]
            if value == "absent":
                del entry[field]
            else:
                entry[field] = value

        edit(path, change)
        refused(name, root, path.name, repr(field), "number 3")
        path.write_text(content, encoding="utf-8")


def test_captions_that_are_none(copy_set: Callable[[str], Path]) -> None:
    root = copy_set("flickr30k")
    path = root / FILES["flickr30k"]
    edit(path, lambda values: values[2].update(caption=[]))
    refused("flickr30k", root, "no caption")
    edit(path, lambda values: values[2].update(caption=["a", None]))
    refused("flickr30k", root, "no text")
    root = copy_set("coco-retrieval")
    path = root / FILES["coco-retrieval"]

    def without_one(values: dict) -> None:
        first = values["images"][0]["id"]
        own = [one for one in values["annotations"] if one["image_id"] != first]
        values["annotations"] = own

    edit(path, without_one)
    refused("coco-retrieval", root, "no caption")
    root = copy_set("sharegpt4v-1k")
    path = root / FILES["sharegpt4v-1k"]
    edit(path, lambda values: values[1].update(conversations=[{}]))
    refused("sharegpt4v-1k", root, "number 1", "conversations[1]")
    root = copy_set("dci")
    path = sorted((root / "densely_captioned_images" / "annotations").iterdir())[0]
    edit(path, lambda values: values.pop("extra_caption") and None)
    refused("dci", root, path.name, "extra_caption")


def test_an_empty_caption_is_a_caption(copy_set: Callable[[str], Path]) -> None:
    root = copy_set("flickr30k")
    edit(root / FILES["flickr30k"], lambda values: values[2].update(caption=["", "b"]))
    record = PROTOCOLS["flickr30k"].record(root)
    assert record.captions[10:12] == ["", "b"] and record.owners[10:13] == [2, 2, 3]


@pytest.mark.parametrize("name", ["flickr30k", "sharegpt4v-1k"])
def test_a_picture_twice_in_a_list(name: str, copy_set: Callable[[str], Path]) -> None:
    root = copy_set(name)
    edit(root / FILES[name], lambda values: values.append(values[0]))
    refused(name, root, "twice")


@pytest.mark.parametrize("name", ["coco-retrieval", "coco-boxes", "lvis-boxes", "boxclass-cn"])
def test_a_picture_twice_in_images(name: str, copy_set: Callable[[str], Path]) -> None:
    root = copy_set(name)
    path = root / FILES[name]
    content = path.read_text(encoding="utf-8")
    edit(path, lambda values: values["images"].append(values["images"][0]))
    refused(name, root, "image id twice")
    path.write_text(content, encoding="utf-8")
    edit(path, lambda values: values["images"].append({**values["images"][0], "id": 999_999_999}))
    refused(name, root, "twice")


def test_a_picture_twice_in_lines(copy_set: Callable[[str], Path]) -> None:
    root = copy_set("lit-cn")
    path = root / FILES["lit-cn"]
    content = path.read_text(encoding="utf-8")
    path.write_text(content + content.split("\n")[0] + "\n", encoding="utf-8")
    refused("lit-cn", root, "picture twice")
    path.write_text(content + "no tab\n", encoding="utf-8")
    refused("lit-cn", root, "line 21", "a tab")
    root = copy_set("flickr30k-cna")
    path = root / FILES["flickr30k-cna"]
    path.write_text(path.read_text(encoding="utf-8") + "1#0\tone\n", encoding="utf-8")
    refused("flickr30k-cna", root, "1 captions of '1.jpg', not 5")


def test_ids_that_the_file_does_not_list(copy_set: Callable[[str], Path]) -> None:
    root = copy_set("coco-boxes")
    path = root / FILES["coco-boxes"]
    content = path.read_text(encoding="utf-8")
    for key in ("category_id", "image_id"):
        edit(path, lambda values, key=key: values["annotations"][0].update({key: 12}))
        refused("coco-boxes", root, key, "12")
        path.write_text(content, encoding="utf-8")
    edit(path, lambda values: values["annotations"][0].update(bbox=[1, 2, -3, 4]))
    refused("coco-boxes", root, "bbox", "[1, 2, -3, 4]")
    for name in ("lvis-boxes", "boxclass-cn"):
        root = copy_set(name)

        def gap(values: dict) -> None:
            gone = values["categories"][0]["id"]
            values["categories"][0]["id"] = 1000
            for one in values["annotations"]:
                one["category_id"] = 1000 if one["category_id"] == gone else one["category_id"]

        edit(root / FILES[name], gap)
        refused(name, root, "category id 1000")


def test_class_folders(copy_set: Callable[[str], Path]) -> None:
    root = copy_set("imagenet")
    refused("imagenet", root, "12 class folders, not 1000", "--num-classes")
    refused("imagenet", root, "12 class folders, not 11", num_classes=11)
    refused("imagenet", root, "1 to 1000", num_classes=0)
    empty = root / "val" / "n01440764"
    shutil.rmtree(empty)
    empty.mkdir()
    (empty / "notes.txt").touch()
    refused("imagenet", root, "n01440764", "no picture", num_classes=12)
    root = copy_set("imagenet-v2")
    folder = root / "imagenetv2-matched-frequency-format-val"
    refused("imagenet-v2", root, "no class from 0 to 10", "11", num_classes=11)
    refused("imagenet-v2", root, "12, 13", num_classes=14)
    (folder / "n01440764").mkdir()
    refused("imagenet-v2", root, "n01440764", num_classes=12)
    (folder / "n01440764").rmdir()
    shutil.copytree(folder / "1", folder / "01")
    refused("imagenet-v2", root, "(01)", num_classes=12)


def test_options_of_other_protocols(golden_sets: Path) -> None:
    refused("dci", golden_sets / "dci", "limit is not for dci", "sharegpt4v-1k", limit=3)
    refused("dci", golden_sets / "dci", "imagenet, imagenet-v2", num_classes=3)
    refused("sharegpt4v-1k", golden_sets / "sharegpt4v-1k", "at least 1", limit=0)


def test_boxes_of_another_picture(
    copy_set: Callable[[str], Path], golden_encoder: Callable[[str], Path]
) -> None:
    """They would take a time without bound; those that overhang a little are the data's own."""
    root = copy_set("fg-ovd")
    (root / "shuffle_negatives_llava.jsonl").unlink()
    path = root / FILES["fg-ovd"]
    lines = path.read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    encoder = load_encoder(golden_encoder("fgclip"))
    for box, is_fine in (([94.6, 44.2, 70, 40], True), ([0, 0, 1e9, 1e9], False)):
        path.write_text(json.dumps({**first, "bbox": box}) + "\n", encoding="utf-8")
        if is_fine:
            assert evaluate_encoder(encoder, "fg-ovd", root).as_published.counts["boxes"] == 1
        else:
            with pytest.raises(ValueError, match=r"leaves the picture .* by far"):
                evaluate_encoder(encoder, "fg-ovd", root)
