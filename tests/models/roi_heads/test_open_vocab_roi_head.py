"""Detections of the second stage, which never has all scores, and the scores themselves."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict

from fgclip_det.models import OpenVocabRoIHead, Regions
from fgclip_det.models.regions import region_classification
from fgclip_det.models.regions.region_classification import classify_regions
from tests.messages import says

DIM = 16


def head(**test_cfg) -> OpenVocabRoIHead:
    bbox_head = dict(type="OpenVocabBBoxHead", in_channels=1, embed_dim=DIM, roi_feat_size=1)
    bbox_head.update(num_shared_convs=0, num_shared_fcs=0, num_cls_fcs=0, num_reg_fcs=0)
    extractor = dict(type="RoIAlignExtractor", out_channels=1, featmap_strides=[4], output_size=1)
    settings = dict(alpha=0.1, beta=0.8, vlm_temperature=40.0, score_thr=0.01, max_per_img=50)
    settings.update({"nms": dict(iou_threshold=0.5), **test_cfg})
    made = OpenVocabRoIHead(extractor, bbox_head, test_cfg=ConfigDict(settings)).eval()
    made.bbox_head.classifier.set_background(torch.randn(DIM))
    made.vlm_classifier.set_background(torch.randn(DIM))
    return made


def regions_and_texts(count: int, num_texts: int) -> tuple[Regions, torch.Tensor, torch.Tensor]:
    texts = 3 * torch.randn(num_texts, DIM)
    like = F.normalize(texts[torch.randint(num_texts, (count,))], dim=-1)
    corners = torch.rand(count, 2) * 60
    regions = Regions(
        boxes=torch.cat([corners, corners + 20], dim=1),
        objectness=torch.rand(count),
        detector_embeddings=F.normalize(like + 0.2 * torch.randn(count, DIM), dim=-1),
        region_embeddings=F.normalize(like + 0.2 * torch.randn(count, DIM), dim=-1),
        image_meta=dict(img_shape=(80, 80), ori_shape=(160, 160), scale_factor=(0.5, 0.5)),
    )
    return regions, texts, torch.rand(num_texts) < 0.5


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("one_label", [False, True])
@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize(("count", "num_texts"), [(0, 5), (9, 1), (30, 40), (30, 2000)])
def test_detections_are_those_of_all_scores(
    count: int, num_texts: int, class_agnostic: bool, one_label: bool, mode, monkeypatch
) -> None:
    torch.manual_seed(count + num_texts)
    made = head(nms=dict(iou_threshold=0.5, class_agnostic=class_agnostic))
    made.one_label = one_label
    regions, texts, is_base = regions_and_texts(count, num_texts)
    with torch.no_grad():
        expected = classify_regions(
            lambda some: made.score(some, texts, is_base),
            regions,
            num_texts,
            made.test_cfg,
            rescale=True,
            one_label=one_label,
        )
    assert len(expected) >= count / 5
    # All regions at once, and seven at a time.
    for at_once in (1 << 24, 7 * num_texts):
        monkeypatch.setattr(region_classification, "_SCORES_AT_ONCE", at_once)
        with mode():
            got = made.classify(regions, texts, is_base)
        assert torch.equal(got.labels, expected.labels)
        assert torch.equal(got.regions, expected.regions)
        torch.testing.assert_close(got.bboxes.detach(), expected.bboxes)
        torch.testing.assert_close(got.scores.detach(), expected.scores, rtol=1e-5, atol=1e-7)


@torch.no_grad()
def test_where_each_name_is_a_candidate_there_is_a_matrix() -> None:
    torch.manual_seed(0)
    regions, texts, is_base = regions_and_texts(20, 30)
    everything = head(score_thr=0.0, nms=dict(iou_threshold=1.0), max_per_img=1000)
    assert everything._likely(regions, texts, is_base) is None
    assert len(everything.classify(regions, texts, is_base)) == 20 * 30


@torch.no_grad()
def test_the_matrix_of_all_scores_is_never_made(monkeypatch) -> None:
    torch.manual_seed(0)
    made = head()
    monkeypatch.setattr(made, "_scores", None)
    regions, texts, is_base = regions_and_texts(20, 300)
    assert len(made.classify(regions, texts, is_base)) > 5


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 7])
def test_one_bool_for_each_text(count: int) -> None:
    regions, texts, is_base = regions_and_texts(20, 30)
    with pytest.raises(ValueError, match=says(f"is_base is of shape ({count},)", "30 texts")):
        head().classify(regions, texts, is_base[:count])


@torch.no_grad()
def test_embeddings_that_are_not_finite_are_refused() -> None:
    torch.manual_seed(0)
    regions, texts, is_base = regions_and_texts(20, 300)
    regions.detector_embeddings[3] = torch.nan
    with pytest.raises(ValueError, match="scores of 1 of 20 boxes are NaN"):
        head().classify(regions, texts, is_base)
