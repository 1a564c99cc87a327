import math
from types import SimpleNamespace

import pytest
import torch

from fgclip_det.models import OpenVocabBBoxHead


def head(**settings):
    torch.manual_seed(0)
    sizes = dict(in_channels=4, embed_dim=3, roi_feat_size=2, num_shared_convs=1)
    sizes.update(conv_out_channels=4, norm_cfg=dict(type="BN"), fc_out_channels=6)
    built = OpenVocabBBoxHead(**{**sizes, **settings})
    built.init_weights()
    return built


@pytest.mark.parametrize("hidden", [0, 1, 2])
def test_outputs(hidden):
    bbox_head = head(num_shared_fcs=hidden, num_cls_fcs=hidden, num_reg_fcs=hidden)
    embeddings, deltas = bbox_head(torch.randn(5, 4, 2, 2))
    assert embeddings.shape == (5, 3) and deltas.shape == (5, 4)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(5))


def test_no_boxes_leave_running_statistics_alone():
    bbox_head = head().train()
    before = {name: b.clone() for name, b in bbox_head.named_buffers()}
    embeddings, deltas = bbox_head(torch.zeros(0, 4, 2, 2))
    assert embeddings.shape == (0, 3) and deltas.shape == (0, 4)
    assert all(b.equal(before[name]) for name, b in bbox_head.named_buffers())
    labels = torch.zeros(0, dtype=torch.long)
    losses = bbox_head.loss(embeddings, deltas, torch.eye(3), labels, torch.zeros(0, 4))
    assert {k: float(v.detach()) for k, v in losses.items()} == dict(loss_cls=0, loss_bbox=0, acc=0)
    sum(v for k, v in losses.items() if "loss" in k).backward()


def test_hand_worked_loss():
    bbox_head = head(temperature=math.log(2.0), background_weight=0.5, loss_weight=3.0)
    bbox_head.classifier.set_background(torch.tensor([0.0, 0.0, 1.0]))
    texts = torch.eye(3)[:2]
    embeddings = torch.tensor([[1.0, 0, 0], [0, 0, -1.0]])
    deltas = torch.tensor([[1.0, -2, 0, 0], [9, 9, 9, 9]])
    labels = torch.tensor([0, 2])
    losses = bbox_head.loss(embeddings, deltas, texts, labels, torch.zeros(2, 4))
    # Row 0: weights 2, 1, 1. Row 1: 1, 1, 1/2 for the background, weighed by a half.
    expected = -math.log(2 / 4) - 0.5 * math.log(0.5 / 2.5)
    assert float(losses["loss_cls"].detach()) == pytest.approx(3 * expected / 2, rel=1e-5)
    assert float(losses["loss_bbox"]) == pytest.approx(3 / 2)
    assert float(losses["acc"]) == 50.0


def test_targets_put_positives_first_and_label_the_rest_background():
    pos = torch.tensor([[0.0, 0, 10, 20]])
    result = SimpleNamespace(
        priors=torch.cat([pos, torch.tensor([[5.0, 5, 6, 6]])]),
        pos_priors=pos,
        pos_gt_bboxes=torch.tensor([[1.0, 0, 11, 20]]),
        pos_gt_labels=torch.tensor([4]),
    )
    empty = SimpleNamespace(
        priors=torch.zeros(1, 4),
        pos_priors=torch.zeros(0, 4),
        pos_gt_bboxes=torch.zeros(0, 4),
        pos_gt_labels=torch.zeros(0, dtype=torch.long),
    )
    labels, deltas = head().get_targets([result, empty], num_classes=7)
    assert labels.tolist() == [4, 7, 7]
    # A tenth of the width to the right, in units of a tenth.
    torch.testing.assert_close(deltas, torch.tensor([[1.0, 0, 0, 0], [0] * 4, [0] * 4]))


def test_decode_inverts_encode_and_clips():
    bbox_head = head()
    boxes = torch.tensor([[10.0, 10, 30, 40], [50, 50, 90, 70]])
    wanted = torch.tensor([[12.0, 8, 33, 44], [60, 50, 110, 70]])
    deltas = bbox_head.bbox_coder.encode(boxes, wanted)
    got = bbox_head.decode(boxes, deltas, (80, 100, 3))
    wanted[1, 2] = 100
    torch.testing.assert_close(got, wanted)


def test_no_category_is_part_of_the_weights():
    assert not any(3 in p.shape for n, p in head(embed_dim=5).named_parameters() if "conv" not in n)
