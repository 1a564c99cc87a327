import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from fgclip_det.models import Regions
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from tests.models.detectors_for_tests import (
    BASE,
    CONFIGS,
    NOVEL,
    assert_same_detections,
    prepared,
    total,
    train_step,
)


def detections_by_name(detections, names):
    """Per name, its boxes and scores by falling score."""
    found = {}
    for row, label in enumerate(detections.labels.tolist()):
        found.setdefault(names[label], []).append(row)
    return {n: (detections.bboxes[r], detections.scores[r]) for n, r in found.items()}


def test_sizes_are_asked_from_the_encoder(build):
    detector = build()
    assert detector.neck.strides == (8, 16, 32, 64)
    assert detector.rpn_head.prior_generator.strides == [(s, s) for s in (8, 16, 32, 64)]
    assert detector.roi_head.bbox_roi_extractor.featmap_strides == (8, 16, 32)
    assert detector.roi_head.bbox_head.fc_embed.out_features == detector.encoder.projection_dim
    assert detector.data_preprocessor.pad_size_divisor == 32
    mean = torch.tensor(detector.encoder.image_mean) * 255
    torch.testing.assert_close(detector.data_preprocessor.mean.flatten(), mean)


def test_background_starts_from_its_text(build):
    detector = build()
    expected = TextEmbeddings.encode(
        Vocabulary.parse(["background"], templates=detector.training_vocabulary.templates),
        detector.encoder,
    ).embeddings[0]
    for classifier in (detector.roi_head.vlm_classifier, detector.roi_head.bbox_head.classifier):
        torch.testing.assert_close(classifier.background_embedding.detach(), expected)


def test_a_train_step_moves_the_detector_and_not_the_encoder(build, make_batch):
    detector = build()
    encoder = {k: v.clone() for k, v in detector.encoder.state_dict().items()}
    own = {n: p.clone() for n, p in detector.named_parameters() if p.requires_grad}
    losses = train_step(detector, make_batch())
    assert set(losses) >= {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss"}
    assert all(torch.isfinite(v) for v in losses.values())
    assert all(v.equal(encoder[k]) for k, v in detector.encoder.state_dict().items())
    assert not detector.encoder.training
    # Biases of anchors without positives may stand still; each part as a whole may not.
    moved = {n for n, p in detector.named_parameters() if n in own and not p.equal(own[n])}
    assert len(moved) > 0.8 * len(own)
    head = "roi_head.bbox_head"
    for name in (
        "classifier.log_temperature_gain",
        "classifier.background_embedding",
        "fc_reg.bias",
    ):
        assert f"{head}.{name}" in moved
    assert {"neck.resamplers.0.0.weight", "rpn_head.rpn_cls.weight"} <= moved


def test_losses_fall_on_one_batch(build, make_batch):
    detector = build().train()
    batch = make_batch()
    optimizer = build_optim_wrapper(
        detector, dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=3e-3))
    )
    values = [
        float(detector.train_step(copy.deepcopy(batch), optimizer)["loss"]) for _ in range(25)
    ]
    assert sum(values[-3:]) < 0.6 * sum(values[:3])


def test_predict_is_propose_then_classify(build, make_batch):
    detector = build()
    inputs, samples = prepared(detector, make_batch())
    regions = detector.propose(inputs, samples)
    detections = detector.classify(regions, detector.text_embeddings)
    predicted = detector.predict(inputs, copy.deepcopy(samples))
    assert all(isinstance(r, Regions) and len(r) for r in regions)
    for sample, expected in zip(predicted, detections, strict=True):
        assert sample.pred_instances.bboxes.equal(expected.bboxes)
        assert sample.pred_instances.scores.equal(expected.scores)
        assert sample.pred_instances.labels.equal(expected.labels)
        assert len(expected) and int(expected.labels.max()) < len(BASE + NOVEL)
        assert (expected.scores[:-1] >= expected.scores[1:]).all()


def test_regions_hold_what_they_say(build, make_batch):
    detector = build()
    inputs, samples = prepared(detector, make_batch())
    proposals = detector.rpn_head.predict(detector.extract_feat(inputs), samples, rescale=False)
    regions = detector.propose(inputs, samples)
    boxes = [proposal.bboxes.detach() for proposal in proposals]
    dense = detector.encoder.encode_dense(inputs, normalize=True)
    pooled = detector.encoder.pool_regions(dense, boxes).split([len(b) for b in boxes])
    for region, expected in zip(regions, pooled, strict=True):
        normalised = torch.nn.functional.normalize(expected, dim=-1)
        torch.testing.assert_close(region.region_embeddings, normalised, atol=1e-5, rtol=0)
        assert region.boxes.dtype == torch.float32
        norms = region.detector_embeddings.norm(dim=1)
        torch.testing.assert_close(norms, torch.ones_like(norms))
        assert region.image_meta["ori_shape"] == (128, 192)
    refined = build(**{"roi_head.region_embedding_boxes": "refined"}).propose(inputs, samples)
    pooled = detector.encoder.pool_regions(dense, [r.boxes for r in refined])
    torch.testing.assert_close(
        torch.cat([r.region_embeddings for r in refined]),
        torch.nn.functional.normalize(pooled, dim=-1),
        atol=1e-5,
        rtol=0,
    )


def test_boxes_are_given_in_the_original_picture(build, make_batch):
    detector = build()
    inputs, samples = prepared(detector, make_batch())
    regions = detector.propose(inputs, samples)
    scaled = detector.classify(regions, detector.text_embeddings)[0]
    plain = detector.classify(regions, detector.text_embeddings, rescale=False)[0]
    torch.testing.assert_close(scaled.bboxes, 2 * plain.bboxes)
    assert scaled.bboxes.equal(2 * regions[0].boxes[scaled.regions])
    regions[0].image_meta["ori_shape"] = (100, 150)
    clipped = detector.classify(regions, detector.text_embeddings)[0].bboxes
    assert clipped[:, 0::2].max() <= 150 and clipped[:, 1::2].max() <= 100


def test_order_of_the_vocabulary_changes_nothing(build, make_batch):
    detector = build(**{"test_cfg.rcnn.max_per_img": 1000})
    inputs, samples = prepared(detector, make_batch())
    regions = detector.propose(inputs, samples)
    names = BASE + NOVEL
    results = []
    for order in (names, names[::-1]):
        texts = detector.encode_vocabulary(order)
        results.append(detections_by_name(detector.classify(regions, texts)[0], texts.names))
    assert set(results[0]) == set(results[1]) == set(names)
    for name, (boxes, scores) in results[0].items():
        torch.testing.assert_close(results[1][name][0], boxes, atol=1e-5, rtol=0)
        torch.testing.assert_close(results[1][name][1], scores, atol=1e-5, rtol=0)


def test_batch_size_changes_nothing(build, make_batch):
    detector = build()
    batch = make_batch(3)
    together = detector.predict(*prepared(detector, batch))
    for index in range(3):
        single = {key: [values[index]] for key, values in batch.items()}
        alone = detector.predict(*prepared(detector, single))[0]
        assert_same_detections(alone.pred_instances, together[index].pred_instances)


def test_pictures_of_one_canvas_go_together_and_change_nothing(build, make_batch, monkeypatch):
    """Canvases of multiples of 32 pixels: three of 64 x 96, two of 96 x 64, mixed."""
    detector = build()
    batch = make_batch(5)
    shapes = [(64, 96), (96, 64), (40, 90), (70, 33), (64, 65)]
    for index, (height, width) in enumerate(shapes):
        picture = batch["inputs"][index]
        batch["inputs"][index] = picture.repeat(1, 2, 1)[:, :height, :width].contiguous()
        batch["data_samples"][index].set_metainfo(dict(img_shape=(height, width)))
    seen = []
    own_forward = detector.backbone.forward
    monkeypatch.setattr(
        detector.backbone, "forward", lambda x: seen.append(tuple(x.shape)) or own_forward(x)
    )
    together = detector.propose(*prepared(detector, batch))
    assert seen == [(3, 3, 64, 96), (2, 3, 96, 64)]
    texts = detector.text_embeddings
    for index, found in enumerate(together):
        single = {key: [values[index]] for key, values in batch.items()}
        alone = detector.propose(*prepared(detector, single))[0]
        assert found.image_meta["img_id"] == index
        for name in ("boxes", "objectness", "detector_embeddings", "region_embeddings"):
            expected, atol = getattr(alone, name), 1e-3 if name == "boxes" else 1e-5
            torch.testing.assert_close(getattr(found, name), expected, atol=atol, rtol=0)
        assert_same_detections(
            detector.classify([found], texts)[0], detector.classify([alone], texts)[0]
        )


def test_each_image_may_have_its_own_vocabulary(build, make_batch, monkeypatch):
    detector = build()
    inputs, samples = prepared(detector, make_batch())
    regions = detector.propose(inputs, samples)
    texts = [detector.encode_vocabulary(["red circle"]), detector.encode_vocabulary(NOVEL)]
    results = detector.classify(regions, texts)
    for index, text in enumerate(texts):
        assert_same_detections(results[index], detector.classify(regions, text)[index], atol=0)
    # Each vocabulary is made ready once, however many images share it.
    seen = []
    own_ready = detector._ready
    monkeypatch.setattr(detector, "_ready", lambda text: seen.append(text) or own_ready(text))
    detector.classify([*regions, *regions], [*texts, *texts])
    assert seen == texts
    with pytest.raises(ValueError, match="2 text embeddings for 1 images"):
        detector.classify(regions[:1], texts)


@pytest.mark.parametrize("count", [1, 5000])
def test_vocabularies_of_one_and_of_thousands(build, make_batch, count):
    detector = build()
    inputs, samples = prepared(detector, make_batch(1))
    names = [f"thing {index}" for index in range(count)]
    values = torch.randn(count, detector.encoder.projection_dim)
    texts = TextEmbeddings(
        Vocabulary.parse(names),
        torch.nn.functional.normalize(values, dim=-1),
        detector.encoder.fingerprint,
    )
    detections = detector.classify(detector.propose(inputs, samples), texts)[0]
    assert 0 < len(detections) <= 100
    assert int(detections.labels.max()) < count
    assert (detections.scores < 1).all()


def test_scores_are_made_in_blocks_that_memory_bounds(build, make_batch, monkeypatch):
    detector = build()
    regions = detector.propose(*prepared(detector, make_batch()))
    texts = detector.text_embeddings
    expected = detector.classify(regions, texts)
    # Of six names: blocks of three regions.
    monkeypatch.setattr("fgclip_det.models.regions.region_classification._SCORES_AT_ONCE", 20)
    sizes = []
    own_likely = detector.roi_head._likely
    monkeypatch.setattr(
        detector.roi_head,
        "_likely",
        lambda *given: sizes.append(len(given[0])) or own_likely(*given),
    )
    for got, whole in zip(detector.classify(regions, texts), expected, strict=True):
        assert got.regions.equal(whole.regions)
        assert_same_detections(got, whole, atol=1e-6)
    assert max(sizes) == 3 and sum(sizes) == sum(len(image) for image in regions)


def test_base_and_novel_are_the_groups_or_the_trained_names(build):
    detector = build()
    assert detector._base_names() == BASE
    is_base = detector._ready(detector.encode_vocabulary([*NOVEL, "zebra", BASE[0]]))["is_base"]
    assert is_base.tolist() == [False, False, False, True]
    groups = {"names": BASE[:2], "groups": {"base": BASE[1:2], "novel": BASE[:1]}}
    assert detector._ready(detector.encode_vocabulary(groups))["is_base"].tolist() == [False, True]
    detector.set_vocabulary(["zebra", BASE[0]])
    assert detector._ready(detector.text_embeddings)["is_base"].tolist() == [False, True]


def test_scores_are_fused_by_group(build, make_batch):
    inputs, samples = prepared(build(), make_batch(1))
    detector = build(**{"test_cfg.rcnn.alpha": 0.0, "test_cfg.rcnn.beta": 1.0})
    regions = detector.propose(inputs, samples)[0]
    ready = detector._ready(detector.text_embeddings)
    texts, scores = ready["text_embeddings"], detector.roi_head.score(regions, **ready)
    trained = detector.roi_head.bbox_head.classifier
    frozen = detector.roi_head.vlm_classifier
    det = trained.probabilities(regions.detector_embeddings, texts)
    vlm = frozen.probabilities(regions.region_embeddings, texts)
    assert frozen.temperature == 75.0
    torch.testing.assert_close(scores[:, : len(BASE)], det[:, : len(BASE)])
    torch.testing.assert_close(scores[:, len(BASE) :], vlm[:, len(BASE) :])


def test_training_leaves_the_vocabulary_open(build, make_batch):
    detector = build()
    train_step(detector, make_batch())
    detector.eval().set_vocabulary("purple zebra. blue circle")
    predicted = detector.predict(*prepared(detector, make_batch()))[0].pred_instances
    assert list(detector.text_embeddings.names) == ["purple zebra", "blue circle"]
    assert len(predicted) and set(predicted.labels.tolist()) <= {0, 1}
    # What labels index stays the base group.
    again = train_step(detector, make_batch())
    assert torch.isfinite(again["loss"])
    assert len(detector._training_embeddings()) == len(BASE)


def test_pictures_without_objects(build, make_batch):
    losses = train_step(build(), make_batch(objects=0))
    assert float(losses["loss_bbox"]) == 0.0 and torch.isfinite(losses["loss"])


def test_no_proposals(build, make_batch):
    nothing = {"train_cfg.rpn_proposal.min_bbox_size": 1000, "test_cfg.rpn.min_bbox_size": 1000}
    detector = build(**nothing)
    regions = detector.propose(*prepared(detector, make_batch()))
    assert [len(r) for r in regions] == [0, 0]
    detections = detector.classify(regions, detector.text_embeddings)
    assert [tuple(d.bboxes.shape) for d in detections] == [(0, 4), (0, 4)]
    for objects in (2, 0):
        assert torch.isfinite(train_step(detector, make_batch(objects=objects))["loss"])


def test_labels_beyond_the_base_group_are_refused(build, make_batch):
    batch = make_batch()
    batch["data_samples"][0].gt_instances.labels[0] = len(BASE)
    with pytest.raises(ValueError, match="label 4 with 4 trained categories"):
        train_step(build(), batch)


def test_without_vocabulary(build, make_batch):
    detector = build(vocabulary=None)
    inputs, samples = prepared(detector, make_batch())
    with pytest.raises(ValueError, match="call set_vocabulary first"):
        detector.predict(inputs, samples)
    with pytest.raises(ValueError, match=r"set model\.vocabulary"):
        detector.train().loss(inputs, samples)
    detector.eval().set_vocabulary(["red circle"])
    assert len(detector.predict(inputs, samples)[0].pred_instances)


def test_without_train_cfg(build, make_batch):
    detector = build(train_cfg=None)
    inputs, samples = prepared(detector, make_batch())
    assert len(detector.predict(inputs, samples)[0].pred_instances)
    with pytest.raises(ValueError, match="without train_cfg"):
        detector.loss(inputs, samples)


def test_propose_without_data_samples(build):
    regions = build()(torch.randn(2, 3, 64, 96), mode="tensor")
    assert [r.image_meta for r in regions] == [{"img_shape": (64, 96), "ori_shape": (64, 96)}] * 2


def test_text_embeddings_file_stands_in_for_the_text_tower(build, tmp_path):
    detector = build()
    path = tmp_path / "texts.safetensors"
    detector.text_embeddings.save(path)
    again = build(vocabulary=str(path))
    assert again.text_embeddings.embeddings.equal(detector.text_embeddings.embeddings)
    assert again._training_embeddings().equal(detector._training_embeddings())


def test_mixed_precision_keeps_boxes_in_float32(build, make_batch):
    detector = build()
    inputs, samples = prepared(detector, make_batch())
    with torch.autocast("cpu", torch.bfloat16):
        regions = detector.propose(inputs, samples)
        detections = detector.classify(regions, detector.text_embeddings)
        losses = detector.train().loss(inputs, samples)
    assert torch.isfinite(total(losses))
    assert detections[0].bboxes.dtype == detections[0].scores.dtype == torch.float32
    assert regions[0].boxes.dtype == regions[0].detector_embeddings.dtype == torch.float32


def test_half_model(build, make_batch):
    detector = build()
    inputs, samples = prepared(detector, make_batch())
    fingerprint = detector.encoder.fingerprint
    expected = detector.propose(inputs, samples)[0]
    detector.bfloat16()
    detector.set_vocabulary(["red circle", "zebra"])
    regions = detector.propose(inputs.bfloat16(), samples)[0]
    assert detector.encoder.fingerprint == fingerprint
    assert regions.boxes.dtype == expected.boxes.dtype == torch.float32
    assert len(detector.predict(inputs.bfloat16(), samples)[0].pred_instances)


def test_config_survives_dump_and_reload(model_config, make_batch, tmp_path, build):
    path = tmp_path / "config.py"
    Config(dict(model=copy.deepcopy(model_config))).dump(path)
    reloaded = Config.fromfile(path).model
    assert reloaded.to_dict() == model_config.to_dict()
    detector = build(**{"backbone": reloaded.backbone})
    inputs, samples = prepared(detector, make_batch())
    assert torch.isfinite(total(detector.train().loss(inputs, samples)))
    assert len(detector.eval().predict(inputs, samples)[0].pred_instances)


def test_building_leaves_the_config_alone(model_config, build):
    before = model_config.to_dict()
    build()
    assert model_config.to_dict() == before


def test_recipe_numbers():
    model = Config.fromfile(CONFIGS / "_base_" / "ovdet_fgclip.py").model
    rcnn = model.test_cfg.rcnn
    assert (rcnn.alpha, rcnn.beta, rcnn.vlm_temperature) == (0.1, 0.8, 75.0)
    assert (rcnn.score_thr, rcnn.nms.iou_threshold, rcnn.max_per_img) == (0.01, 0.4, 100)
    assert model.backbone.out_indices == (3, 5, 7, 11)
    assert model.roi_head.bbox_head.background_weight == 0.6
    assert model.train_cfg.rcnn.sampler.num == 512
