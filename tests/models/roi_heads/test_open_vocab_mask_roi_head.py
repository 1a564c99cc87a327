import copy
import math

import pytest
import torch

import fgclip_det.models.roi_heads.open_vocab_mask_roi_head as module
from fgclip_det.models import MaskRegions, OpenVocabMaskRoIHead, OpenVocabRoIHead

# isort: split
from mmdet.structures.mask import PolygonMasks
from mmengine.config import ConfigDict

MASK_SIZE = 8
MASKS = {
    "roi_head.type": "OpenVocabMaskRoIHead",
    "roi_head.mask_roi_extractor": dict(type="RoIAlignExtractor", output_size=MASK_SIZE // 2),
    "roi_head.mask_head": dict(
        type="FCNMaskHead", num_convs=1, conv_out_channels=4, class_agnostic=True
    ),
    "train_cfg.rcnn.mask_size": MASK_SIZE,
    "test_cfg.rcnn.mask_thr_binary": 0.5,
}


@pytest.fixture
def detector(build):
    return build(**MASKS)


@pytest.fixture
def batch(make_batch):
    """Of each object, the left half of its box."""
    batch = make_batch(count=3)
    batch["data_samples"][2].gt_instances = batch["data_samples"][2].gt_instances[:0]
    for sample in batch["data_samples"]:
        polygons = []
        for x1, y1, x2, y2 in sample.gt_instances.bboxes.tolist():
            middle = (x1 + x2) / 2
            corners = torch.tensor([x1, y1, middle, y1, middle, y2, x1, y2])
            polygons.append([corners.numpy()])
        sample.gt_instances.masks = PolygonMasks(polygons, 64, 96)
    return batch


def prepared(detector, batch, training=False):
    data = detector.data_preprocessor(copy.deepcopy(batch), training)
    return data["inputs"], data["data_samples"]


def test_sizes_are_those_of_the_box_head_unless_given(detector):
    assert isinstance(detector.roi_head, OpenVocabMaskRoIHead)
    own, box = detector.roi_head.mask_roi_extractor, detector.roi_head.bbox_roi_extractor
    assert own is not box and (own.output_size, box.output_size) == (MASK_SIZE // 2, 3)
    assert own.featmap_strides == box.featmap_strides
    assert detector.roi_head.mask_head.in_channels == detector.neck.out_channels


def test_masks_of_single_categories_are_refused(build):
    with pytest.raises(ValueError, match="class_agnostic=True"):
        build(**{**MASKS, "roi_head.mask_head.class_agnostic": False})


def test_loss_by_hand_and_its_gradients(detector, batch):
    detector.train()
    mask_head = detector.roi_head.mask_head
    torch.nn.init.zeros_(mask_head.conv_logits.weight)
    torch.nn.init.zeros_(mask_head.conv_logits.bias)
    losses = detector.loss(*prepared(detector, batch, training=True))
    # A logit of 0 says one half everywhere: binary cross entropy ln 2 whatever the masks are.
    assert float(losses["loss_mask"].detach()) == pytest.approx(math.log(2), rel=1e-6)
    assert {"loss_cls", "loss_bbox"} <= set(losses)
    losses["loss_mask"].backward()
    assert mask_head.conv_logits.weight.grad.abs().sum() > 0
    torch.nn.init.normal_(mask_head.conv_logits.weight)
    detector.loss(*prepared(detector, batch, training=True))["loss_mask"].backward()
    assert detector.neck.resamplers[0][0].weight.grad.abs().sum() > 0


def test_targets_are_the_masks_within_their_boxes(detector, batch, monkeypatch):
    detector.train()
    mask_head, found = detector.roi_head.mask_head, {}
    own = mask_head.loss_and_target

    def loss_and_target(logits, samples, *rest):
        found.update(samples=samples, **own(logits, samples, *rest))
        return dict(loss_mask=found["loss_mask"])

    monkeypatch.setattr(mask_head, "loss_and_target", loss_and_target)
    detector.loss(*prepared(detector, batch, training=True))
    targets = found["mask_targets"]
    assert targets.shape[1:] == (MASK_SIZE, MASK_SIZE)
    # Ground-truth boxes are among those sampled; within them the left half is covered.
    exact = torch.cat([(s.pos_priors == s.pos_gt_bboxes).all(dim=1) for s in found["samples"]])
    assert exact.any()
    left = torch.zeros(MASK_SIZE, MASK_SIZE)
    left[:, : MASK_SIZE // 2] = 1
    # Polygons are drawn on pixels, so a border may be a cell off.
    assert ((targets[exact] == left).float().mean(dim=(1, 2)) > 0.8).all()


def test_without_any_object(detector, batch):
    detector.train()
    empty = {key: value[2:] for key, value in batch.items()}
    losses = detector.loss(*prepared(detector, empty, training=True))
    assert float(losses["loss_mask"].detach()) == 0


@torch.no_grad()
def test_masks_belong_to_regions_and_not_to_words(detector, batch, monkeypatch):
    inputs, samples = prepared(detector, batch)
    regions = detector.propose(inputs, samples)
    for image in regions:
        assert isinstance(image, MaskRegions)
        assert image.mask_logits.shape == (len(image), MASK_SIZE, MASK_SIZE)
        assert image.mask_logits.dtype == torch.float32
        assert image[:3].mask_logits.equal(image.mask_logits[:3])
        assert image[:3].to("cpu").image_meta == image.image_meta
    one = detector.encode_vocabulary(["red circle"])
    other = detector.encode_vocabulary(["something", "a red circle", "red circle"])
    for image in regions:
        first, second = (detector.classify([image], texts)[0] for texts in (one, other))
        for row, region in enumerate(first.regions):
            same = (second.regions == region).nonzero().squeeze(1)
            assert all(second.masks[k].equal(first.masks[row]) for k in same)
    # Many boxes go through the mask head a few at a time.
    monkeypatch.setattr(module, "_BOXES_AT_ONCE", 3)
    again = detector.propose(inputs, samples)
    for image, expected in zip(again, regions, strict=True):
        torch.testing.assert_close(image.mask_logits, expected.mask_logits)


@torch.no_grad()
@pytest.mark.parametrize("rescale", [True, False])
def test_masks_lie_where_the_box_is(detector, rescale):
    dim = detector.encoder.projection_dim
    unit = torch.nn.functional.normalize(torch.ones(1, dim))
    logits = torch.full((1, MASK_SIZE, MASK_SIZE), -9.0)
    logits[:, :, : MASK_SIZE // 2] = 9.0
    region = MaskRegions(
        boxes=torch.tensor([[8.0, 4.0, 24.0, 20.0]]),
        objectness=torch.ones(1),
        detector_embeddings=unit,
        region_embeddings=unit,
        image_meta=dict(img_shape=(32, 48), ori_shape=(64, 96), scale_factor=(0.5, 0.5)),
        mask_logits=logits,
    )
    texts = torch.eye(dim)[:1]
    found = detector.roi_head.classify(region, texts, torch.tensor([True]), rescale)
    scale, shape = (2, (64, 96)) if rescale else (1, (32, 48))
    assert found.bboxes[0].tolist() == [8 * scale, 4 * scale, 24 * scale, 20 * scale]
    expected = torch.zeros(1, *shape, dtype=torch.bool)
    expected[:, 4 * scale : 20 * scale, 8 * scale : 16 * scale] = True
    # Interpolated against nothing beside the box, the very corners may be lost.
    wrong = (found.masks ^ expected)[0].nonzero().tolist()
    corners = [[y, x] for y in (4 * scale, 20 * scale - 1) for x in (8 * scale, 16 * scale - 1)]
    assert all(pixel in corners for pixel in wrong)


@torch.no_grad()
def test_nothing_found_has_no_masks(build, batch):
    detector = build(**MASKS, **{"test_cfg.rcnn.score_thr": 1.0})
    inputs, samples = prepared(detector, batch)
    for result in detector.predict(inputs, samples):
        assert result.pred_instances.masks.shape == (0, 128, 192)
    nothing = detector.propose(inputs, samples)[0][:0]
    texts = detector.text_embeddings
    assert detector.classify([nothing], texts)[0].masks.shape == (0, 128, 192)


@torch.no_grad()
def test_boxes_are_those_of_a_head_without_masks(build, detector, batch):
    plain = build()
    assert type(plain.roi_head) is OpenVocabRoIHead
    state = plain.state_dict()
    weights = {key: value for key, value in detector.state_dict().items() if key in state}
    plain.load_state_dict(weights)
    inputs, samples = prepared(detector, batch)
    for own, expected in zip(
        detector.propose(inputs, samples), plain.propose(inputs, samples), strict=True
    ):
        assert own.boxes.equal(expected.boxes)
        assert own.region_embeddings.equal(expected.region_embeddings)


def test_half_precision(detector, batch):
    detector.train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = detector.loss(*prepared(detector, batch, training=True))
    assert losses["loss_mask"].isfinite()
    inputs, samples = prepared(detector.eval(), batch)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        result = detector.predict(inputs, samples)[0].pred_instances
    assert result.masks.shape == (len(result.labels), 128, 192)
    assert result.masks.dtype == torch.bool
    assert isinstance(detector.test_cfg, ConfigDict)
