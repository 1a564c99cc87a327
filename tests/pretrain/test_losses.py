import math

import pytest
import torch
from safetensors.torch import load_file

from fgclip_det.pretrain.losses import (
    HardGroups,
    RowShares,
    contrastive_loss,
    group_contrastive_loss,
    group_logits,
    hard_negative_accuracy,
    hard_negative_loss,
    mean_margin,
    ranking_loss,
    sigmoid_loss,
    text_intra_modal_loss,
)

EYE = torch.eye(2)
TWO = RowShares.local(2)
# The second group has one wrong caption alone, and an unused place.
GROUPS = HardGroups(
    EYE,
    torch.stack([EYE[[0, 1, 1]], EYE[[0, 1, 0]]]),
    torch.tensor([[True, True, True], [True, True, False]]),
)
LOGITS = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])


@pytest.fixture(scope="module")
def golden(golden_dir):
    directory = golden_dir / "fgclip_tiny"
    return load_file(directory / "model.safetensors") | load_file(
        directory / "expected.safetensors"
    )


@pytest.mark.parametrize(
    ("name", "texts", "scale"),
    [
        ("loss_region_contrastive", "loss_text_embeds", "logit_scale_finegraind"),
        ("loss_global_short", "loss_text_embeds", "logit_scale"),
        ("loss_global_long", "loss_text_long_embeds", "logit_scale"),
    ],
)
def test_contrastive_equals_the_authors(golden, name, texts, scale):
    images = golden["loss_image_embeds"]
    shares = RowShares.local(len(images))
    loss = contrastive_loss(images, golden[texts], golden[scale].exp(), shares)
    torch.testing.assert_close(loss, golden[name][0], atol=1e-5, rtol=0)


def test_hard_negative_equals_the_authors(golden):
    texts = golden["loss_hard_text_embeds"].unflatten(0, (6, 11))
    groups = HardGroups(golden["loss_image_embeds"], texts, torch.ones(6, 11, dtype=torch.bool))
    logits = group_logits(groups, golden["logit_scale_hardneg"].exp())
    loss = hard_negative_loss(logits, groups.valid, RowShares.local(6))
    torch.testing.assert_close(loss, golden["loss_hard_negative"][0], atol=1e-5, rtol=0)
    assert hard_negative_accuracy(logits, groups.valid).item() == pytest.approx(1 / 6)


def test_hand_worked_contrast_of_pairs():
    loss = contrastive_loss(EYE, EYE, torch.tensor(3.0), TWO)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-3)), abs=1e-6)
    loss = sigmoid_loss(EYE, EYE, torch.tensor(3.0), torch.tensor(-1.0), TWO)
    # A pair that belongs together has 3 - 1, one that does not has -1.
    expected = math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_hand_worked_hard_negatives():
    assert torch.equal(group_logits(GROUPS, torch.tensor(2.0)), LOGITS)
    right, wrong = math.log(1 + 2 * math.exp(-2)), math.log(1 + math.exp(2))
    loss = hard_negative_loss(LOGITS, GROUPS.valid, TWO)
    assert loss.item() == pytest.approx((right + wrong) / 2, abs=1e-6)
    assert hard_negative_accuracy(LOGITS, GROUPS.valid).item() == 0.5
    # Margins are 2, 2 and -2: each group counts the same, whatever its number of wrong captions.
    assert mean_margin(LOGITS, GROUPS.valid, TWO).item() == pytest.approx((2 - 2) / 2)
    loss = ranking_loss(LOGITS, GROUPS.valid, torch.tensor(3.0), TWO)
    assert loss.item() == pytest.approx((1 + 5) / 2)


def test_wrong_captions_of_other_groups_are_texts_too():
    loss = group_contrastive_loss(GROUPS, torch.tensor(2.0), TWO, RowShares.local(3))
    # Region 0: two right captions score 2, three wrong ones 0; region 1 the other way round.
    regions = math.log(2 + 3 * math.exp(-2)) + math.log(2 + 3 * math.exp(2))
    texts = math.log(1 + math.exp(-2)) + math.log(1 + math.exp(2))
    assert loss.item() == pytest.approx((regions + texts) / 4, abs=1e-6)


def test_texts_push_apart_all_but_their_like():
    texts = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 1.0]]), dim=1)
    near, far = (texts[2] @ texts[row] for row in (1, 0))
    # Rows 0 and 1 are more alike than 0.95; what is left out counts as a cosine of 0.
    sums = [2 + far.exp(), 2 + near.exp(), 1 + far.exp() + near.exp()]
    expected = sum(value.log() for value in sums) / 3
    torch.testing.assert_close(text_intra_modal_loss(texts, RowShares.local(3)), expected)


def test_of_many_texts_the_ten_closest_count():
    texts = torch.eye(14)
    loss = text_intra_modal_loss(texts, RowShares.local(14))
    assert loss.item() == pytest.approx(math.log(10), abs=1e-6)


def test_no_rows_give_zero_and_a_gradient():
    regions = torch.zeros(0, 4, requires_grad=True)
    none, scale = RowShares.local(0), torch.tensor(1.0, requires_grad=True)
    groups = HardGroups(regions, regions[:, None].expand(0, 11, 4), torch.ones(0, 11).bool())
    logits = group_logits(groups, scale)
    losses = [
        contrastive_loss(regions, regions, scale, none),
        sigmoid_loss(regions, regions, scale, scale, none),
        text_intra_modal_loss(regions, none),
        group_contrastive_loss(groups, scale, none, none),
        hard_negative_loss(logits, groups.valid, none),
        ranking_loss(logits, groups.valid, scale.detach(), none),
    ]
    for loss in losses:
        (gradient,) = torch.autograd.grad(loss, regions, retain_graph=True)
        assert loss.item() == 0
        assert gradient.shape == (0, 4)


def test_shares_of_an_uneven_batch():
    shares = RowShares((3, 0, 2), rank=2)
    assert (shares.total, shares.own, shares.start) == (5, 2, 3)
    assert shares.labels(torch.device("cpu")).tolist() == [3, 4]
    # Two rows of five; averaged over three processes it is their part of the mean.
    assert shares.mean(torch.tensor([1.0, 4.0])).item() == pytest.approx(5 / 5 * 3)
