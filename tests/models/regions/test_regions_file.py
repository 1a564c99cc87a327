"""Regions in a file: all of them comes back, and they are asked with the texts of their encoder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fgclip_det.io import read_tensor_header
from fgclip_det.models import MaskRegions, Regions
from fgclip_det.models.regions.regions import _hash, read_regions
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from tests.messages import says

META = {
    "img_shape": (48, 64),
    "ori_shape": (96, 128),
    "scale_factor": (np.float32(0.5), 0.5),
    "img_id": np.int64(7),
    "img_path": Path("a/b.png"),
}


def make(count: int = 3, **given) -> dict:
    return dict(
        boxes=torch.rand(count, 4),
        objectness=torch.rand(count),
        region_embeddings=torch.randn(count, 5),
        image_meta=META,
        encoder_fingerprint="0123456789abcdef",
        **given,
    )


def assert_equal(one: Regions, other: Regions) -> None:
    assert type(one) is type(other)
    for name, value in vars(one).items():
        if torch.is_tensor(value):
            assert torch.equal(getattr(other, name), value)
            assert getattr(other, name).dtype == value.dtype
        elif name != "image_meta":
            assert getattr(other, name) == value


@pytest.mark.parametrize("count", [0, 3])
def test_everything_comes_back(tmp_path: Path, count: int) -> None:
    kinds = [
        Regions(**make(count)),
        Regions(**make(count, class_scores=torch.rand(count, 2))),
        Regions(**make(count, detector_embeddings=torch.randn(count, 5).half())),
        MaskRegions(**make(count, mask_logits=torch.randn(count, 4, 4))),
    ]
    for number, regions in enumerate(kinds):
        path = tmp_path / "new" / f"{number}.safetensors"
        regions.save(path, {"note": "红"})
        loaded, labels = read_regions(path)
        assert_equal(loaded, regions)
        assert_equal(Regions.load(path), regions)
        assert labels == {"note": "红"}
        assert loaded.image_meta == {**META, "img_path": "a/b.png"}
        assert isinstance(loaded.image_meta["img_shape"], tuple)


def test_tensors_that_share_their_memory_are_written(tmp_path: Path) -> None:
    embeddings = torch.randn(6, 5)
    regions = Regions(**{**make(3), "region_embeddings": embeddings[:3]})
    regions.detector_embeddings = embeddings[:3]
    regions.save(tmp_path / "r.safetensors")
    assert_equal(Regions.load(tmp_path / "r.safetensors"), regions)
    assert (tmp_path / "r.safetensors").stat().st_size < 2000


def test_what_is_not_known_to_be_of_an_encoder_is_not_written(tmp_path: Path) -> None:
    regions = Regions(**{**make(), "encoder_fingerprint": ""})
    with pytest.raises(ValueError, match="do not say which encoder made them"):
        regions.save(tmp_path / "r.safetensors")
    assert not list(tmp_path.iterdir())


def test_the_detector_says_whose_its_regions_are(build, make_batch, tmp_path: Path) -> None:
    detector, batch = build(), make_batch()
    data = detector.data_preprocessor(batch, False)
    regions = detector.propose(data["inputs"], data["data_samples"])
    texts = detector.text_embeddings
    expected = detector.classify(regions, texts)
    for number, image in enumerate(regions):
        assert image.encoder_fingerprint == detector.encoder.fingerprint
        assert image[:2].encoder_fingerprint == detector.encoder.fingerprint
        image.save(tmp_path / "r.safetensors")
        (found,) = detector.classify([Regions.load(tmp_path / "r.safetensors")], texts)
        for key in ("bboxes", "scores", "labels", "regions"):
            assert torch.equal(found[key], expected[number][key])
    foreign = regions[0][:2]
    foreign.encoder_fingerprint = "0" * 16
    with pytest.raises(ValueError, match=says("0000000000000000")):
        detector.classify([foreign], texts)


def test_broken_files_are_refused(tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    Regions(**make()).save(good)
    bad = tmp_path / "bad.safetensors"
    with pytest.raises(ValueError, match="check the path"):
        Regions.load(tmp_path / "none.safetensors")
    for content in (b"", good.read_bytes()[:-7], b"{" * 100):
        bad.write_bytes(content)
        with pytest.raises(ValueError, match=says("bad.safetensors", "truncated")):
            Regions.load(bad)
    TextEmbeddings(Vocabulary.parse("a"), torch.ones(1, 5), "0" * 16).save(bad)
    with pytest.raises(ValueError, match="holds no regions of fgclip_det"):
        Regions.load(bad)


@pytest.mark.parametrize(
    ("tensors", "labels"),
    [
        (dict(boxes=torch.rand(2, 4)), {}),
        (dict(boxes=torch.rand(3, 5)), {}),
        (dict(more=torch.rand(3)), {}),
        (dict(objectness=torch.rand(2)), {}),
        ({}, {"class": "Other"}),
        ({}, {"image_meta": "{"}),
        ({}, {"image_meta": "[1]"}),
    ],
)
def test_altered_files_are_refused(tmp_path: Path, tensors: dict, labels: dict) -> None:
    values = {k: v for k, v in make().items() if torch.is_tensor(v)}
    told = dict(kind="fgclip_det.Regions", image_meta="{}", encoder_fingerprint="0", labels="{}")
    told["class"] = "Regions"
    stored, told = {**values, **tensors}, {**told, **labels}
    save_file(stored, tmp_path / "r", metadata={**told, "hash": _hash(told, stored)})
    with pytest.raises(ValueError, match=says("altered after it was written", "propose")):
        Regions.load(tmp_path / "r")


@pytest.mark.parametrize("place", ["boxes", "objectness", "region_embeddings", "labels", "meta"])
def test_other_content_than_was_written_is_refused(tmp_path: Path, place: str) -> None:
    path = tmp_path / "r.safetensors"
    Regions(**make()).save(path, {"image_path": "a.png"})
    told, tensors = read_tensor_header(path).labels, load_file(path)
    if place in tensors:
        tensors[place].view(-1)[0] += 0.125
    elif place == "labels":
        told["labels"] = told["labels"].replace("a.png", "b.png")
    else:
        told["image_meta"] = told["image_meta"].replace("48", "96")
    save_file(tensors, path, metadata=told)
    with pytest.raises(ValueError, match=says("r.safetensors'", "altered after it was written")):
        Regions.load(path)
    del told["hash"]
    save_file(tensors, path, metadata=told)
    with pytest.raises(ValueError, match=says("r.safetensors'", "no hash", "propose them again")):
        Regions.load(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["boxes", "objectness", "region_embeddings", "class_scores"])
def test_regions_that_are_no_numbers_are_named(tmp_path: Path, name: str, value: float) -> None:
    path = tmp_path / "r.safetensors"
    regions = Regions(**make(class_scores=torch.rand(3, 2)))
    regions.save(path)
    told, tensors = read_tensor_header(path).labels, load_file(path)
    for target in (tensors[name], getattr(regions, name)):
        target.view(-1)[1] = value
    del told["hash"]
    save_file(tensors, path, metadata={**told, "hash": _hash(told, tensors)})
    with pytest.raises(ValueError, match=says("r.safetensors'", f"'{name}'", "1 times")):
        Regions.load(path)
    with pytest.raises(ValueError, match=says("new.safetensors'", f"'{name}'")):
        regions.save(tmp_path / "new.safetensors")
    assert not (tmp_path / "new.safetensors").exists()


@pytest.mark.parametrize(
    ("meta", "labels"),
    [
        ({"img_path": "caf\udce9.png"}, {}),
        ({"scale_factor": (float("nan"), 1.0)}, {}),
        ({}, {"image_path": "caf\udce9.png"}),
    ],
)
def test_what_would_not_be_read_is_not_written(tmp_path: Path, meta: dict, labels: dict) -> None:
    regions = Regions(**{**make(), "image_meta": {**META, **meta}})
    with pytest.raises(ValueError, match=says("r.safetensors'")):
        regions.save(tmp_path / "r.safetensors", labels)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_no_file_is_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "r.safetensors"
    {
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "folder": path.mkdir,
    }[kind]()
    with pytest.raises(ValueError, match=says("r.safetensors'", "cannot be read")):
        Regions.load(path)


def test_a_disk_that_fills_up(tmp_path: Path, room_for, fill_disk) -> None:
    path = tmp_path / "r.safetensors"
    old, new = Regions(**make(2)), Regions(**make(20))
    old.save(path)
    for size in range(0, 900, 50):
        with pytest.raises(OSError), room_for(size):
            new.save(path)
        assert_equal(Regions.load(path), old)
        assert list(tmp_path.iterdir()) == [path]
    fill_disk(0)
    with pytest.raises(OSError):
        new.save(path)
    assert_equal(Regions.load(path), old)
    fill_disk(1)
    new.save(path)
    assert_equal(Regions.load(path), new)
    assert list(tmp_path.iterdir()) == [path]
