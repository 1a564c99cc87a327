"""Detectors of the hub behind the wrapper and the inferencer, and checkpoints that are refused."""

from __future__ import annotations

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.models import HubDetector, OpenVocabWrapper
from tests.messages import says
from tests.tiny_encoders import NAMES
from tests.tiny_hub_detectors import FAMILIES, IS_5, NEEDS_5, write_tiny


def prompt_of(family):
    return "object." if "grounding" in family else None


def picture_of(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator).byte()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny("d_fine", tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def broken(tiny, tmp_path):
    """A copy of a checkpoint, to be broken."""
    return shutil.copytree(tiny, tmp_path / "broken")


def batch_of(wrapper, pictures):
    """As a pipeline without a resize gives them: BGR, padded to the largest."""
    samples = [
        DetDataSample(
            metainfo=dict(
                img_shape=(p.shape[1], p.shape[2]),
                ori_shape=(p.shape[1], p.shape[2]),
                scale_factor=(1.0, 1.0),
            )
        )
        for p in pictures
    ]
    data = dict(inputs=[p.flip(0) for p in pictures], data_samples=samples)
    data = wrapper.data_preprocessor(data, False)
    return data["inputs"], data["data_samples"]


@pytest.mark.parametrize("family", FAMILIES)
def test_regions_of_a_batch_are_those_of_each_picture(family, tmp_path, encoder_dir):
    directory = write_tiny(family, tmp_path)
    detector = dict(type="HubDetector", name=str(directory), prompt=prompt_of(family))
    wrapper = OpenVocabWrapper(detector, encoder_dir).train()
    pictures = [picture_of(48, 80), picture_of(90, 40, 1), picture_of(48, 80, 2)]
    together = wrapper.propose(*batch_of(wrapper, pictures))
    for regions, picture in zip(together, pictures, strict=True):
        boxes, scores = wrapper.detector.find_boxes(picture)
        assert len(boxes) > 3
        (alone,) = wrapper.propose(*batch_of(wrapper, [picture]))
        assert alone.boxes.equal(regions.boxes)
        order = [boxes.tolist().index(box) for box in regions.boxes.tolist()]
        assert sorted(order) == list(range(len(boxes)))
        assert regions.objectness.equal(scores[order])
        assert (regions.objectness.diff() <= 0).all()
        torch.testing.assert_close(alone.region_embeddings, regions.region_embeddings)


class Known(nn.Module):
    """A network that finds the same shares of any picture."""

    told: dict = {}  # noqa: RUF012
    nms_iou = None
    shares = torch.tensor([[0.1, 0.2, 0.5, 0.75], [0.3, 0.0, 1.0, 0.4], [0.0, 0.0, 1.0, 1.0]])

    def forward(self, picture):
        height, width = picture.shape[-2:]
        self.seen = picture.clone()
        return self.shares * torch.tensor([width, height] * 2), torch.tensor([0.9, 0.9, 0.2])


@pytest.fixture
def known(tiny, encoder_dir, tmp_path):
    """An inferencer whose detector finds what is known."""
    config = Config(
        dict(
            model=dict(
                type="OpenVocabWrapper",
                detector=dict(type="HubDetector", name=str(tiny)),
                encoder=encoder_dir,
            ),
            test_dataloader=dict(
                dataset=dict(
                    pipeline=[dict(type="LoadImageFromFile"), dict(type="PackDetInputs", meta_keys=(
                        "img_id", "img_path", "ori_shape", "img_shape", "scale_factor"))]
                )
            ),
        )
    )  # fmt: skip
    inferencer = OpenVocabInferencer(config, device="cpu")
    inferencer.model.detector.family = Known()
    return inferencer


@pytest.mark.parametrize("size", [(48, 80), (90, 40), (31, 1), (3, 200)])
def test_known_boxes_come_back_through_the_inferencer(known, size):
    pixels = picture_of(*size).permute(1, 2, 0).numpy()
    padded = picture_of(96, 128, 1).permute(1, 2, 0).numpy()
    (image, _) = known.propose([pixels, padded], batch_size=2, progress=False)
    height, width = known.model.detector.family.seen.shape[-2:]
    assert (height, width) == (96, 128)
    height, width = image.regions.image_meta["img_shape"][:2]  # a very long one is padded itself
    expected = Known.shares * torch.tensor([width, height] * 2)
    got = torch.tensor(sorted(image.regions.boxes.tolist()))
    torch.testing.assert_close(got, torch.tensor(sorted(expected.tolist())), atol=1e-4, rtol=0)
    assert {round(score, 4) for score in image.regions.objectness.tolist()} == {0.9, 0.2}


def test_the_network_reads_the_stored_pixels_turned_by_exif(known, tmp_path):
    pixels = picture_of(40, 60).permute(1, 2, 0).numpy()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    known.propose(tmp_path / "turned.png", progress=False)
    seen = known.model.detector.family.seen.permute(1, 2, 0).numpy()
    assert (seen == np.rot90(pixels, -1)).all()


def test_no_boxes_are_no_detections(known):
    known.model.detector.score_thr = 0.95
    (found,) = known([picture_of(40, 60).permute(1, 2, 0).numpy()], NAMES, score_thr=0.0)
    assert len(found.boxes) == 0


@pytest.mark.parametrize("family", ["d_fine", "owlv2"])
def test_settings_and_weights_tell_regions_apart(family, tmp_path, encoder_dir):
    first, other = (write_tiny(family, tmp_path / str(seed), seed) for seed in (0, 1))
    moved = shutil.copytree(first, tmp_path / "moved")

    def hash_of(directory, **settings):
        detector = HubDetector(directory, **settings)
        return OpenVocabWrapper(detector, encoder_dir).regions_hash

    told = [hash_of(first), hash_of(other), hash_of(first, num_boxes=7)]
    told += [hash_of(first, score_thr=0.1), hash_of(first, nms_iou=0.4)]
    assert len({*told}) == len(told)
    assert hash_of(moved) == told[0]
    settings = json.loads((moved / "preprocessor_config.json").read_text())
    settings["image_mean"] = [0.4, 0.4, 0.4]
    (moved / "preprocessor_config.json").write_text(json.dumps(settings))
    assert hash_of(moved) not in told


def test_the_prompt_tells_regions_apart(tmp_path, encoder_dir):
    directory = write_tiny("grounding-dino", tmp_path)
    detectors = [HubDetector(directory, prompt=text) for text in ("object", " OBJECT. ", "a thing")]
    same, also, other = (OpenVocabWrapper(one, encoder_dir).regions_hash for one in detectors)
    assert same == also != other
    boxes = [one.find_boxes(picture_of(48, 80))[1] for one in detectors]
    assert boxes[0].equal(boxes[1])
    assert not boxes[0].equal(boxes[2])


def test_weights_are_not_drawn_anew_and_it_stays_in_eval_mode(tiny):
    detector = MODELS.build(dict(type="HubDetector", name=str(tiny)))
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    detector.init_weights()
    detector.train()
    assert all(value.equal(before[key]) for key, value in detector.state_dict().items())
    assert not any(part.training for part in detector.modules())
    twin = copy.deepcopy(detector)
    assert twin.find_boxes(picture_of(9, 9))[0].equal(detector.find_boxes(picture_of(9, 9))[0])
    with pytest.raises(ValueError, match="comes trained"):
        detector.loss(None, [])


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_cuda_gives_the_boxes_of_the_cpu(family, tmp_path):
    detector = HubDetector(write_tiny(family, tmp_path), prompt=prompt_of(family))
    raw = detector.family(picture_of(48, 80))
    on_cuda = detector.cuda().family(picture_of(48, 80).cuda())
    for got, expected in zip(on_cuda, raw, strict=True):
        assert got.is_cuda
        torch.testing.assert_close(got.cpu(), expected, atol=1e-2, rtol=1e-3)


def test_reading_says_nothing(tiny, capfd, recwarn):
    HubDetector(tiny).find_boxes(picture_of(48, 80))
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def rewrite(directory, change):
    weights = load_file(directory / "model.safetensors")
    save_file(change(weights), directory / "model.safetensors", metadata={"format": "pt"})


def configured(directory, name="config.json", **values):
    config = json.loads((directory / name).read_text())
    (directory / name).write_text(json.dumps({**config, **values}))


def test_a_missing_tensor_is_not_made_up(broken):
    def without(weights):
        return {k: v for k, v in weights.items() if "enc_score_head.weight" not in k}

    rewrite(broken, without)
    with pytest.raises(ValueError, match=says(broken, "missing model.enc_score_head.weight")):
        HubDetector(broken)


def test_an_unexpected_tensor_is_named(broken):
    rewrite(broken, lambda weights: {**weights, "model.extra.weight": torch.zeros(2)})
    with pytest.raises(ValueError, match=says(broken, "unexpected model.extra.weight")):
        HubDetector(broken)


def test_other_sizes_are_named(broken):
    def wider(weights):
        key = "model.enc_score_head.bias"
        return {**weights, key: torch.zeros(9)}

    rewrite(broken, wider)
    with pytest.raises(ValueError, match=says("enc_score_head.bias", 9, "expected", 5)):
        HubDetector(broken)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(broken, value):
    def spoiled(weights):
        weights["model.enc_score_head.bias"][0] = value
        return weights

    rewrite(broken, spoiled)
    with pytest.raises(ValueError, match=says("NaN or an infinity", "model.enc_score_head.bias")):
        HubDetector(broken)


def test_weights_that_are_pickled_or_cut_off(broken):
    content = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=says("model.safetensors", "truncated")):
        HubDetector(broken)
    (broken / "model.safetensors").rename(broken / "pytorch_model.bin")
    with pytest.raises(ValueError, match=says(broken, "convert pickled weights to safetensors")):
        HubDetector(broken)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_a_file_that_is_missing(broken, name):
    (broken / name).unlink()
    with pytest.raises(ValueError, match=says(broken, "holds no", name)):
        HubDetector(broken)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("content", ["", "[1]", '{"a": ', "\x00"])
def test_a_file_that_is_broken(broken, name, content):
    (broken / name).write_text(content)
    with pytest.raises(ValueError, match=name):
        HubDetector(broken)


@pytest.mark.parametrize("kind", ["bert", "yolos", None, 3, "x\ny"])
def test_other_architectures(broken, kind):
    configured(broken, model_type=kind)
    with pytest.raises(ValueError, match=says("no detector that is known", "rt_detr")) as caught:
        HubDetector(broken)
    assert "\n" not in str(caught.value)


def test_code_of_a_repository_is_never_run(broken, tmp_path):
    mark = tmp_path / "ran"
    (broken / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Net: pass\n")
    auto_map = {"AutoModelForObjectDetection": "evil.Net", "AutoConfig": "evil.Net"}
    configured(broken, model_type="evil", auto_map=auto_map)
    with pytest.raises(ValueError, match=says("code of its own", "never run")):
        HubDetector(broken)
    configured(broken, model_type="d_fine")
    configured(broken, "preprocessor_config.json", auto_map={"AutoImageProcessor": "evil.Net"})
    HubDetector(broken)  # its own class is known, and takes the place of the code
    assert not mark.exists()


@pytest.mark.parametrize("kind", NEEDS_5)
@pytest.mark.skipif(IS_5, reason="known there")
def test_families_of_transformers_5(broken, kind):
    configured(broken, model_type=kind)
    with pytest.raises(ValueError, match=says(kind, "needs transformers 5", "4.57.6")):
        HubDetector(broken)


@pytest.mark.parametrize(
    "values",
    [dict(d_model="wide"), dict(d_model=33), dict(backbone_config=None), dict(decoder_layers=-1)],
)
def test_a_config_of_nonsense_is_one_line(broken, values):
    configured(broken, **values)
    with pytest.raises(ValueError, match=str(broken)) as caught:
        HubDetector(broken).find_boxes(picture_of(48, 80))
    assert "\n" not in str(caught.value)


def test_a_processor_of_another_network(tmp_path):
    directory = write_tiny("owlv2", tmp_path)
    configured(directory, "preprocessor_config.json", size={"height": 96, "width": 96})
    with pytest.raises(ValueError, match=says("48 x 80", "preprocessor_config.json")):
        HubDetector(directory).find_boxes(picture_of(80, 48))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (dict(num_boxes=0), "num_boxes"),
        (dict(num_boxes=True), "num_boxes"),
        (dict(score_thr=1.5), "score_thr"),
        (dict(score_thr=float("nan")), "score_thr"),
        (dict(nms_iou=0), "nms_iou"),
        (dict(nms_iou="0.7"), "nms_iou"),
        (dict(prompt=3), "prompt"),
        (dict(prompt="object."), "reads no text"),
    ],
)
def test_settings_out_of_range(tiny, settings, told):
    with pytest.raises(ValueError, match=told):
        HubDetector(tiny, **settings)


@pytest.mark.parametrize("prompt", [None, "", " . ", "a thing. " * 40])
def test_prompts_that_name_nothing_or_too_much(tmp_path, prompt):
    directory = write_tiny("grounding-dino", tmp_path)
    with pytest.raises(ValueError, match="prompt"):
        HubDetector(directory, prompt=prompt)


@pytest.mark.parametrize("name", ["", 3, None, "no/such/place", "/nowhere", "a\0b"])
def test_names_of_nothing(name):
    with pytest.raises(ValueError, match=r"name|director|detector"):
        HubDetector(name)


def test_the_wrapper_says_it_in_one_line(broken, encoder_dir):
    (broken / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=says("holds no preprocessor_config.json")) as caught:
        OpenVocabWrapper(dict(type="HubDetector", name=str(broken)), encoder_dir)
    assert "\n" not in str(caught.value)
