"""From a picture's file and a caption to the numbers of FG-CLIP's own evaluation code."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fgclip_det.encoders import FGCLIP, FGCLIP2, RegionEncoder
from fgclip_det.io import read_image

TOLERANCE = dict(atol=1e-5, rtol=1e-4)
GENERATIONS = {"fgclip": FGCLIP, "fgclip2": FGCLIP2}
# Folder of the pictures that `order.json` names.
PICTURES = {
    "coco-retrieval": "val2017",
    "flickr30k": "",
    "imagenet": "val",
    "imagenet-v2": "imagenetv2-matched-frequency-format-val",
    "lit-cn": "",
    "flickr30k-cna": "flickr30k-images",
}
BOXES = {
    "coco-boxes": ("annotations/instances_val2017.json", "val2017"),
    "lvis-boxes": ("lvis_v1_val.json", "coco/val2017"),
    "boxclass-cn": ("valid_category_data_total_zh.json", "images"),
}
CAPTIONS = ["coco-retrieval", "flickr30k", "flickr30k-cna", "coco-cn"]


@pytest.fixture(scope="module")
def folder(golden_dir: Path) -> Path:
    if not (golden_dir / "evaluation").is_dir():
        pytest.skip("reference numbers not present: no folder evaluation beside the golden tensors")
    return golden_dir / "evaluation"


@pytest.fixture(scope="module")
def models(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Of each generation the golden checkpoint with its tokenizer."""
    found = {}
    for name, kind in GENERATIONS.items():
        directory = tmp_path_factory.mktemp(name)
        for source in (folder.parent / f"{name}_tiny", folder / "tokenizers" / name):
            for file in source.iterdir():
                (directory / file.name).symlink_to(file)
        found[name] = kind.from_pretrained(directory)
    return found


def expected(folder: Path, protocol: str, generation: str) -> dict[str, torch.Tensor]:
    with np.load(folder / protocol / f"features_{generation}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def pairs(protocols: Iterable[str]) -> list[tuple[str, str]]:
    """Protocols with the generations that take them: the Chinese ones are FG-CLIP 2's."""
    return [
        (protocol, generation)
        for protocol in protocols
        for generation in GENERATIONS
        if generation == "fgclip2" or not protocol.endswith(("-cn", "-cna"))
    ]


def order(folder: Path, protocol: str) -> dict:
    return json.loads((folder / protocol / "order.json").read_text(encoding="utf-8"))


def boxes_of(
    folder: Path, protocol: str, ids: torch.Tensor
) -> tuple[list[Path], list[list[float]]]:
    """Picture and corners, in pixels of it as stored, of each of these annotations."""
    file, pictures = BOXES[protocol]
    told = json.loads((folder / protocol / file).read_text(encoding="utf-8"))
    images = {image["id"]: image for image in told["images"]}
    annotations = {one["id"]: one for one in told["annotations"]}
    paths, boxes = [], []
    for one in (annotations[key] for key in ids.tolist()):
        image, (x, y, width, height) = images[one["image_id"]], one["bbox"]
        name = image.get("file_name") or image["coco_url"].rsplit("/", 1)[1]
        paths.append(folder / protocol / pictures / name)
        boxes.append([x, y, x + width, y + height])
    return paths, boxes


@pytest.mark.parametrize(("protocol", "generation"), pairs(PICTURES))
def test_features_of_pictures(folder, models, protocol, generation):
    # Forty pictures or fewer, evenly of all.
    names = order(folder, protocol)["images"]
    step = -(-len(names) // 40)
    names = names[::step]
    wanted = expected(folder, protocol, generation)["image_features"][::step]
    model, patches = models[generation], {}
    if generation == "fgclip2" and protocol.startswith("imagenet"):
        patches = {"max_num_patches": 1024}
    paths = [folder / protocol / PICTURES[protocol] / name for name in names]
    found = [model.encode_image(model.preprocess([Image.open(path)], **patches)) for path in paths]
    torch.testing.assert_close(torch.cat(found), wanted, **TOLERANCE)
    together = model.preprocess([Image.open(path) for path in paths[:7]], **patches)
    torch.testing.assert_close(model.encode_image(together), wanted[:7], **TOLERANCE)


@pytest.mark.parametrize(("protocol", "generation"), pairs(BOXES))
def test_features_of_boxes(folder, models, protocol, generation):
    wanted = expected(folder, protocol, generation)
    paths, boxes = boxes_of(folder, protocol, wanted["annotation_ids"])
    model = models[generation]
    # FG-CLIP 2 scales the features of boxes to unit length itself.
    unit = generation == "fgclip2"
    reader, found = RegionEncoder(model), []
    for path, box in zip(paths, boxes, strict=True):
        picture = torch.from_numpy(read_image(path, "stored")).permute(2, 0, 1)
        corners = torch.tensor([box], dtype=torch.float64)
        found += reader([picture], [corners], normalize=unit)
    torch.testing.assert_close(torch.cat(found), wanted["box_features"], **TOLERANCE)


@pytest.mark.filterwarnings("ignore:.* were cut")
@pytest.mark.parametrize(("protocol", "generation"), pairs(CAPTIONS))
def test_features_of_captions(folder, models, protocol, generation):
    wanted, model = expected(folder, protocol, generation), models[generation]
    known = order(folder, protocol).get("captions")
    captions = [text for own in known for text in own[:5]]
    # Generation 1 leaves case to its tokenizer.
    settings = {"lowercase": protocol != "flickr30k-cna"} if generation == "fgclip2" else {}
    ids = model.tokenize(captions, **settings)
    assert torch.equal(ids, wanted["input_ids"][:, : ids.shape[1]])
    features = model.encode_text(captions, **settings)
    torch.testing.assert_close(features, wanted["text_features"], **TOLERANCE)
    if generation == "fgclip2":
        other = model.tokenize(captions, lowercase=not settings["lowercase"])
        assert not torch.equal(other, ids), "no caption has capitals"


def test_long_captions_of_the_second_generation_keep_their_case(folder, models):
    wanted = expected(folder, "lit-cn", "fgclip2")
    lines = (folder / "lit-cn" / "image_caption_long_cn.txt").read_text(encoding="utf-8")
    captions = dict(line.split("\t", 1) for line in lines.splitlines())
    texts = [captions[name] for name in order(folder, "lit-cn")["images"]]
    features = models["fgclip2"].encode_text(texts, "long", lowercase=False)
    torch.testing.assert_close(features, wanted["text_features"], **TOLERANCE)


def test_box_texts_of_the_second_generation_keep_their_case(folder, models):
    wanted = expected(folder, "boxclass-cn", "fgclip2")["class_features"]
    names = order(folder, "boxclass-cn")["classes"]
    found = models["fgclip2"].encode_text(names, "box", normalize=True, lowercase=False)
    torch.testing.assert_close(found, wanted, **TOLERANCE)
    lowered = models["fgclip2"].encode_text(names, "box", normalize=True)
    assert (lowered - wanted).abs().max() > 1e-3
