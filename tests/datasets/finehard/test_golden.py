"""Items, token ids and pixels equal those that the authors' code makes of the reference shard."""

from __future__ import annotations

import json
import random

import pytest
import torch
from safetensors.torch import load_file

from fgclip_det.datasets.finehard import FineHARDDataset, ItemLeftOut, collate_patches
from fgclip_det.datasets.finehard.left_out import AUTHORS_REFUSE, NO_PICTURE

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


@pytest.fixture
def folder(golden_dir):
    return golden_dir / "training" / "finehard"


def dataset(folder, generation, **changes):
    settings = dict(
        generation=generation,
        tokenizer=str(folder / f"tokenizer_v{generation}"),
        region_text="short",
        as_published=True,
    )
    ann_file = str(folder / "shard_000.json")
    return FineHARDDataset(ann_file, str(folder / "images"), **{**settings, **changes})


def expected(folder, generation):
    return json.loads((folder / f"expected_v{generation}.json").read_text())


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("region_text", ["short", "long"])
def test_items_are_those_of_the_authors(folder, generation, region_text):
    data = dataset(folder, generation, region_text=region_text)
    items = expected(folder, generation)["items"]
    assert len(data) == len(items) == 29
    for number, want in enumerate(items):
        if not want["ok"]:
            with pytest.raises(ItemLeftOut) as caught:
                data._sample(number, random.Random(0))
            is_missing = want["error"].startswith("FileNotFoundError")
            assert caught.value.kind == (NO_PICTURE if is_missing else AUTHORS_REFUSE), want["what"]
            continue
        got = data._sample(number, random.Random(0))
        height, width = got["image"].shape[1:]
        shares = got["boxes"] / torch.tensor([width, height] * 2)
        torch.testing.assert_close(
            shares, torch.tensor(want["boxes"]).reshape(-1, 4), atol=1e-6, rtol=0
        )
        assert got["long_caption"] == want["long_ids"], want["what"]
        assert got["short_caption"] == want["short_ids"], want["what"]
        assert got["region_captions"] == want[f"region_ids_{region_text}"], want["what"]
        groups = [group for group in got["hard_captions"] if group]
        assert groups == want["hard_group_ids"], want["what"]


@pytest.mark.parametrize("generation", [1, 2])
def test_texts_are_those_of_the_authors(folder, generation):
    data = dataset(folder, generation, tokenizer=None)
    for number, want in enumerate(expected(folder, generation)["items"]):
        if want["ok"]:
            got = data._sample(number, random.Random(0))
            assert got["long_caption"] == want["long_text"]
            assert got["short_caption"] == want["short_text"]
            assert [group for group in got["hard_captions"] if group] == want["hard_groups"]


def test_stretched_pixels_are_those_of_the_authors(folder):
    data = dataset(folder, 1, image_size=64)
    numbers = expected(folder, 1)["collated"]["items"]
    pixels = load_file(folder / "collated_v1.safetensors")["image"]
    for number, want in zip(numbers, pixels, strict=True):
        image = data._sample(number, random.Random(0))["image"]
        assert torch.equal(image, ((want * STD + MEAN) * 255).round().to(torch.uint8))


def test_patches_are_those_of_the_authors(folder):
    data = dataset(folder, 2)
    collated = expected(folder, 2)["collated"]
    samples = [data._sample(number, random.Random(0)) for number in collated["items"]]
    batch = collate_patches(samples, patch_size=16)
    stored = load_file(folder / "collated_v2.safetensors")
    shapes = [[image.shape[1] // 16, image.shape[2] // 16] for image in batch["image"]]
    assert shapes == stored["spatial_shapes"].tolist()
    contents = collated["contents"]
    for index, (image, boxes) in enumerate(zip(batch["image"], batch["boxes"], strict=True)):
        assert (
            image.shape[1] * image.shape[2] // 256 == contents["pixel_attention_mask_sums"][index]
        )
        # Theirs is the mean over the padding too, which is 0. Another release's resize may be a
        # grey level or two beside it.
        mean = (image / 127.5 - 1).sum() / (contents["max_num_patches_of_batch"] * 768)
        assert mean.item() == pytest.approx(contents["pixel_means"][index], abs=2e-3)
        height, width = image.shape[1:]
        want = stored["box_infos"][4 * index : 4 * index + len(boxes)]
        got = boxes / torch.tensor([width, height] * 2)
        torch.testing.assert_close(got, want, atol=1e-6, rtol=0)


def test_a_small_picture_is_stretched_as_the_authors_do(folder):
    small = 26
    published = dataset(folder, 2)._sample(small, random.Random(0))["image"]
    assert published.shape == (3, 512, 512)
    ours = dataset(folder, 2, as_published=False)._sample(small, random.Random(0))["image"]
    assert ours.shape == (3, 200, 100)
