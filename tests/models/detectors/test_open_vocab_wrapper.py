"""Detectors of MMDetection's own configs, asked in words: the numbers of a loop over boxes."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from mmdet.datasets import CocoDataset
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.dataset import Compose, pseudo_collate
from mmengine.hub import get_config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmengine.runner.checkpoint import load_state_dict as mmengine_load_state_dict
from PIL import Image

from fgclip_det.models import OpenVocabWrapper, build_encoder
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from tests.messages import says
from tests.models.detectors_for_tests import BASE, NOVEL, assert_same_detections

CONFIGS = {
    "FasterRCNN": "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "RetinaNet": "retinanet/retinanet_r50_fpn_1x_coco.py",
    "RTMDet": "rtmdet/rtmdet_s_8xb32-300e_coco.py",
    "DINO": "dino/dino-4scale_r50_8xb2-12e_coco.py",
    "DeformableDETR": "deformable_detr/deformable-detr_r50_16xb2-50e_coco.py",
}
# Of two pictures, as the network sees them and as they were.
SIZES = [((64, 96), (128, 192)), ((96, 64), (96, 64))]


def detector_config(name):
    """MMDetection's own, with fewer queries than these small pictures have cells."""
    model = get_config(f"mmdet::{CONFIGS[name]}").model
    if "num_queries" in model:
        model.num_queries = 20
    (model.test_cfg.rcnn if name == "FasterRCNN" else model.test_cfg).update(score_thr=0.0)
    return model


@pytest.fixture(scope="module", params=CONFIGS)
def detector(request):
    """One of the detectors, with random weights that spread its boxes."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        built = revert_sync_batchnorm(MODELS.build(detector_config(request.param)))
    if hasattr(built, "level_embed"):
        # Memory that nobody wrote until then, now and then NaN.
        torch.nn.init.normal_(built.level_embed)
    if request.param == "RTMDet":
        for layer in built.bbox_head.rtm_reg:
            torch.nn.init.normal_(layer.weight, std=0.1)
            torch.nn.init.constant_(layer.bias, 2.0)
    return built.eval()


@pytest.fixture(scope="module")
def pictures():
    """Of each picture BGR pixels and metainfo; RTMDet's pipeline pads to a square."""
    generator = torch.Generator().manual_seed(0)

    def make(detector):
        found = []
        for (height, width), original in SIZES:
            pixels = torch.randint(0, 256, (3, height, width), generator=generator).byte()
            scale = (width / original[1], height / original[0])
            meta = dict(ori_shape=original, scale_factor=scale, img_shape=(height, width))
            if type(detector).__name__ == "RTMDet":
                padded = F.pad(pixels, (0, 96 - width, 0, 96 - height), value=114)
                meta["img_shape"] = (96, 96)
                found.append((pixels, padded, meta))
            else:
                found.append((pixels, pixels, meta))
        return found

    return make


def batch_of(wrapper, pictures):
    samples = [DetDataSample(metainfo=copy.deepcopy(meta)) for *_, meta in pictures]
    data = dict(inputs=[padded for _, padded, _ in pictures], data_samples=samples)
    data = wrapper.data_preprocessor(data, False)
    return data["inputs"], data["data_samples"]


@torch.no_grad()
def by_hand(wrapper, picture, texts, class_agnostic):
    """Detections of one picture: its detector alone, then box by box."""
    pixels, padded, meta = picture
    data = dict(inputs=[padded], data_samples=[DetDataSample(metainfo=dict(meta))])
    found = wrapper.detector.test_step(copy.deepcopy(data))[0].pred_instances
    encoder, side = wrapper.encoder, wrapper.encoder.image_size
    image = Image.fromarray(pixels.flip(0).permute(1, 2, 0).numpy())
    resized = image.resize((side, side), Image.Resampling.BICUBIC)
    resized = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (encoder.image_mean, encoder.image_std))
    dense = encoder.encode_dense(((resized / 255 - mean) / std)[None]).permute(0, 3, 1, 2)
    height, width = meta["ori_shape"]
    rows = []
    for box, score in zip(found.bboxes, found.scores, strict=True):
        box = torch.minimum(box.clamp(min=0), torch.tensor([width, height, width, height]))
        if (box[2:] <= box[:2]).any():
            continue
        scaled = box * torch.tensor([side / width, side / height] * 2)
        pooled = torchvision.ops.roi_align(
            dense, [scaled[None]], 1, 1 / encoder.patch_size, aligned=True
        ).flatten()
        cosines = texts @ pooled / pooled.norm()
        best, label = (100.0 * cosines).softmax(dim=0).max(dim=0)
        rows.append((box, (score * best).sqrt(), label))
    boxes, scores, labels = (torch.stack(column) for column in zip(*rows, strict=True))
    groups = torch.zeros_like(labels) if class_agnostic else labels
    kept = torchvision.ops.batched_nms(boxes.double(), scores.double(), groups, 0.5)
    return boxes[kept], scores[kept], labels[kept]


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_the_numbers_of_a_loop_over_boxes(detector, encoder_dir, pictures, class_agnostic):
    head = dict(test_cfg=dict(nms=dict(iou_threshold=0.5, class_agnostic=class_agnostic)))
    wrapper = OpenVocabWrapper(detector, encoder_dir, region_head=head, vocabulary=BASE + NOVEL)
    shown = pictures(detector)
    # The loop works at the original size, the wrapper in the network's input.
    with torch.no_grad():
        results = wrapper.eval().predict(*batch_of(wrapper, shown))
    texts = wrapper.text_embeddings.embeddings
    for result, picture in zip(results, shown, strict=True):
        boxes, scores, labels = by_hand(wrapper, picture, texts, class_agnostic)
        found = result.pred_instances
        assert len(found) == len(scores) > 2
        torch.testing.assert_close(found.scores, scores, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.bboxes, boxes, atol=1e-3, rtol=0)
        assert found.labels.equal(labels)


def test_a_batch_gives_what_each_picture_gives(detector, encoder_dir, pictures):
    wrapper = OpenVocabWrapper(detector, encoder_dir, vocabulary=BASE).eval()
    shown = pictures(detector)
    together = wrapper.propose(*batch_of(wrapper, shown))
    for image, picture in zip(together, shown, strict=True):
        (alone,) = wrapper.propose(*batch_of(wrapper, [picture]))
        torch.testing.assert_close(image.boxes, alone.boxes, atol=1e-3, rtol=0)
        torch.testing.assert_close(image.objectness, alone.objectness, atol=1e-5, rtol=0)
        torch.testing.assert_close(image.region_embeddings, alone.region_embeddings)
        assert image.encoder_fingerprint == wrapper.encoder.fingerprint
        assert (image.objectness.diff() <= 0).all()
        # Boxes lie in the picture, not in what its pipeline padded.
        height, width = picture[0].shape[1:]
        assert (image.boxes[:, 0::2] <= width).all() and (image.boxes[:, 1::2] <= height).all()


def test_its_own_checkpoint_loads_as_it_is(detector, encoder_dir, tmp_path):
    name = type(detector).__name__
    path = tmp_path / "detector.pth"
    torch.save({"state_dict": detector.state_dict(), "meta": {}}, path)
    config = detector_config(name)
    wrapper = OpenVocabWrapper(config, encoder_dir, detector_checkpoint=path)
    assert config == detector_config(name)
    own = detector.state_dict()
    assert all(value.equal(own[key]) for key, value in wrapper.detector.state_dict().items())
    buffer = io.BytesIO()
    torch.save(wrapper.state_dict(), buffer)
    saved = torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    assert set(saved) == {f"detector.{key}" for key in own}
    for weights in (saved, detector.state_dict()):
        for load in (torch.nn.Module.load_state_dict, mmengine_load_state_dict):
            for value in wrapper.detector.state_dict().values():
                value.zero_()
            load(wrapper, weights)
            got = wrapper.detector.state_dict()
            assert all(value.equal(own[key]) for key, value in got.items())


def centernet():
    """MMDetection's CenterNet and its test pipeline; its boxes have about 40 x 28 pixels."""
    config = get_config("mmdet::centernet/centernet_r18_8xb16-crop512-140e_coco.py")
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        built = MODELS.build(config.model).eval()
        steps = [s for s in config.test_dataloader.dataset.pipeline if s.type != "LoadAnnotations"]
        pipeline = Compose(steps)
    built.bbox_head.wh_head[-1].bias.data.copy_(torch.tensor([10.0, 7.0]))
    return built, pipeline


@pytest.mark.parametrize("generation", ["first", "second"])
def test_pictures_that_are_padded_on_all_sides(encoder_dir, encoder2_dir, tmp_path, generation):
    detector, pipeline = centernet()
    wrapper = OpenVocabWrapper(
        detector, {"first": encoder_dir, "second": encoder2_dir}[generation], vocabulary=BASE
    )
    random, batch, pictures = np.random.default_rng(0), [], []
    for number, (height, width) in enumerate([(97, 64), (64, 97), (75, 131), (96, 128)]):
        coarse = random.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        image = Image.fromarray(coarse).resize((width, height))
        image.save(tmp_path / f"{number}.png")
        pictures.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
        batch.append(pipeline({"img_path": str(tmp_path / f"{number}.png"), "img_id": number}))
    with torch.no_grad():
        # One by one: padding to a common size moves what it sees.
        found = [wrapper.detector.test_step(pseudo_collate([copy.deepcopy(d)]))[0] for d in batch]
    data = wrapper.data_preprocessor(pseudo_collate(batch), False)
    regions = wrapper.propose(data["inputs"], data["data_samples"])
    for picture, own, sample in zip(pictures, regions, found, strict=True):
        # Boxes are the detector's of the picture as it was, clipped to it.
        height, width = picture.shape[1:]
        boxes = sample.pred_instances.bboxes.clamp(min=0)
        boxes = torch.minimum(boxes, torch.tensor([width, height, width, height]))
        inside = boxes[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)]
        assert len(own) == len(inside.unique(dim=0)) > 50
        nearest = (own.boxes[:, None] - inside).abs().amax(dim=2).amin(dim=1)
        torch.testing.assert_close(nearest, torch.zeros(len(own)), atol=2e-3, rtol=0)
        (pooled,) = wrapper.region_encoder([picture], [own.boxes])
        torch.testing.assert_close(own.region_embeddings, pooled, atol=1e-5, rtol=0)


@pytest.fixture
def retina(encoder_dir):
    """Build a wrapper of an untrained RetinaNet."""

    def build(encoder=encoder_dir, **settings):
        torch.manual_seed(0)
        wrapper = OpenVocabWrapper(detector_config("RetinaNet"), encoder, **settings)
        return wrapper.eval()

    return build


def test_weights_that_do_not_fit_are_listed(retina):
    wrapper = retina()
    weights = wrapper.detector.state_dict()
    weights["bbox_head.other.bias"] = weights.pop("bbox_head.retina_cls.bias")
    weights["bbox_head.retina_reg.bias"] = torch.zeros(5)
    for load in (torch.nn.Module.load_state_dict, mmengine_load_state_dict):
        with pytest.raises(ValueError) as error:
            load(wrapper, weights.copy())
        for words in (
            "missing detector.bbox_head.retina_cls.bias",
            "unexpected detector.bbox_head.other.bias",
            "size mismatch for detector.bbox_head.retina_reg.bias",
        ):
            assert words in str(error.value)


def test_nothing_is_fetched_and_nothing_is_trained(retina, monkeypatch, make_batch):
    def fetch(*args, **kwargs):
        raise AssertionError("a pretrained backbone was asked for")

    monkeypatch.setattr("mmengine.runner.checkpoint.CheckpointLoader.load_checkpoint", fetch)
    wrapper = retina()
    before = copy.deepcopy(wrapper.state_dict())
    wrapper.init_weights()
    wrapper.train()
    assert not wrapper.encoder.training
    assert all(key.startswith("detector.") for key in before)
    assert not wrapper.detector.training and not wrapper.encoder.training
    assert all(value.equal(before[key]) for key, value in wrapper.state_dict().items())
    with pytest.raises(ValueError, match=says("RetinaNet", "train", "config")):
        wrapper(**wrapper.data_preprocessor(make_batch(), True), mode="loss")


def test_samples_are_not_needed_and_stay_as_they_are(retina, pictures):
    wrapper = retina()
    inputs, samples = batch_of(wrapper, pictures(wrapper.detector)[:1])
    before = copy.deepcopy(samples[0])
    (regions,) = wrapper.propose(inputs, samples)
    assert samples[0].keys() == before.keys() and samples[0].metainfo == before.metainfo
    (bare,) = wrapper(inputs, mode="tensor")
    assert bare.image_meta == dict(img_shape=(64, 96), ori_shape=(64, 96))
    torch.testing.assert_close(bare.boxes, regions.boxes)


def test_words_change_without_the_network(retina, make_batch):
    wrapper = retina(vocabulary=BASE)
    data = wrapper.data_preprocessor(make_batch(), False)
    first = wrapper.predict(data["inputs"], copy.deepcopy(data["data_samples"]))
    regions = wrapper.propose(data["inputs"], data["data_samples"])
    wrapper.detector.predict = None
    for found, sample in zip(
        wrapper.classify(regions, wrapper.text_embeddings), first, strict=True
    ):
        assert_same_detections(found, sample.pred_instances)
    wrapper.set_vocabulary(NOVEL)
    found = wrapper.classify(regions, wrapper.text_embeddings)[0]
    assert len(found) and int(found.labels.max()) < len(NOVEL)


def test_many_vocabularies_of_one_image(retina, make_batch):
    wrapper = retina()
    asked = [[["red circle", "blue star"]], [["green star"], ["red star", "blue circle", "x"]]]
    batch = make_batch()
    for sample, vocabularies in zip(batch["data_samples"], asked, strict=True):
        sample.set_metainfo({"vocabularies": [{"captions": words} for words in vocabularies]})
    data = wrapper.data_preprocessor(batch, False)
    for row, sample in enumerate(wrapper.predict(data["inputs"], data["data_samples"])):
        for words, found in zip(asked[row], sample.vocabulary_predictions, strict=True):
            alone = wrapper.classify(
                wrapper.propose(data["inputs"], data["data_samples"])[row : row + 1],
                wrapper.encode_vocabulary(words),
            )[0]
            assert_same_detections(found, alone)
            assert found.caption_scores.shape == (len(found), len(words))


def test_either_generation_with_its_own_texts(retina, encoder_dir, encoder2_dir, make_batch):
    wrapper = retina(encoder2_dir, vocabulary=BASE)
    assert wrapper.text_embeddings.text_length == "box"
    assert wrapper.captions.text_length == "box"
    data = wrapper.data_preprocessor(make_batch(), False)
    found = wrapper.predict(data["inputs"], data["data_samples"])[0].pred_instances
    assert len(found) and found.scores.isfinite().all()
    first = TextEmbeddings.encode(Vocabulary.parse(BASE), build_encoder(encoder_dir))
    with pytest.raises(ValueError, match=says("encode the vocabulary again")):
        wrapper.set_vocabulary(first)
    regions = wrapper.propose(data["inputs"], data["data_samples"])
    with pytest.raises(ValueError, match=says("encode the vocabulary again")):
        wrapper.classify(regions, first)
    with pytest.raises(ValueError, match="propose them again"):
        retina().classify(regions, first)


def test_objectness_of_the_first_stage(encoder_dir, make_batch):
    torch.manual_seed(0)
    config = detector_config("FasterRCNN")
    config.test_cfg.rpn.max_per_img = 30
    wrapper = OpenVocabWrapper(config, encoder_dir, box_score="rpn").eval()
    data = wrapper.data_preprocessor(make_batch(1), False)
    inputs, samples = data["inputs"], data["data_samples"]
    with torch.no_grad():
        features = wrapper.detector.extract_feat(inputs)
        (expected,) = wrapper.detector.rpn_head.predict(features, samples, rescale=False)
    (regions,) = wrapper.propose(inputs, samples)
    assert len(regions) == len(expected) == 30
    torch.testing.assert_close(regions.objectness, expected.scores)
    assert set(map(tuple, regions.boxes.tolist())) == set(map(tuple, expected.bboxes.tolist()))


def test_the_order_of_coco_is_the_datasets():
    assert Vocabulary.parse("coco").names == CocoDataset.METAINFO["classes"]


def test_what_cannot_be_wrapped_is_named(encoder_dir):
    solo = get_config("mmdet::solo/solo_r50_fpn_1x_coco.py").model
    with pytest.raises(ValueError, match="SOLO gives no boxes"):
        OpenVocabWrapper(solo, encoder_dir)
    with pytest.raises(ValueError, match=says("'retinanet'", "MMDetection's configs")):
        OpenVocabWrapper("retinanet", encoder_dir)
    glip = get_config("mmdet::glip/glip_atss_swin-t_a_fpn_dyhead_pretrain_obj365.py").model
    with pytest.raises(ValueError, match=r"reads texts itself.*tools/rescore\.py"):
        OpenVocabWrapper(glip, encoder_dir)
    retina = detector_config("RetinaNet")
    with pytest.raises(ValueError, match=says('"rpn"', "two-stage", "RetinaNet")):
        OpenVocabWrapper(retina, encoder_dir, box_score="rpn")
    with pytest.raises(ValueError, match="box_score is 'mean'"):
        OpenVocabWrapper(retina, encoder_dir, box_score="mean")
    with pytest.raises(ValueError, match=says('"ensemble"', "class_names")):
        OpenVocabWrapper(retina, encoder_dir, region_head=dict(fusion="ensemble"))
    with pytest.raises(ValueError, match=says("none.pth")):
        OpenVocabWrapper(retina, encoder_dir, detector_checkpoint="none.pth")
    bare = {key: value for key, value in retina.items() if key != "data_preprocessor"}
    with pytest.raises(ValueError, match=says("DetDataPreprocessor")):
        OpenVocabWrapper(bare, encoder_dir)
    # Where a config names it beside its model, MMEngine hands it over.
    given = OpenVocabWrapper(bare, encoder_dir, data_preprocessor=retina.data_preprocessor)
    assert given.data_preprocessor is given.detector.data_preprocessor
    assert given.data_preprocessor.pad_size_divisor == 32
