import json
import math

import pytest
import torch
from mmengine.optim import OptimWrapper

from fgclip_det.encoders import FGCLIP
from fgclip_det.pretrain import FGCLIPPretrainer

SIZES = dict(
    vision=dict(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    ),
    text=dict(
        vocab_size=540,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
    ),
    projection_dim=12,
)


@pytest.fixture
def captions(tmp_path):
    path = tmp_path / "pretrain.jsonl"
    entry = {
        "short_caption": "a red ring",
        "long_caption": "There is one red ring on a grey ground.",
        "regions": [{"bbox": [2, 2, 20, 20], "caption": "a red ring", "negatives": []}],
    }
    path.write_text(json.dumps(entry) + "\n")
    return str(path)


def _batch(regions=(1, 2)):
    words = ["red", "blue", "green"]
    return dict(
        image=[torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8) for _ in regions],
        short_caption=[f"a {words[i]} ring" for i in range(len(regions))],
        long_caption=[f"There is a {words[i]} ring." for i in range(len(regions))],
        boxes=[torch.tensor([[2.0, 2.0, 20.0, 24.0]]).repeat(k, 1) for k in regions],
        region_captions=[[f"a {words[j]} ring" for j in range(k)] for k in regions],
        hard_captions=[
            [[f"a {words[j]} ring"] + [f"a {w} star" for w in words] for j in range(k)]
            for k in regions
        ],
    )


def _pretrainer(captions, **weights):
    torch.manual_seed(0)
    return FGCLIPPretrainer(SIZES, tokenizer_captions=captions, **weights)


def test_all_objectives_reach_all_their_parameters(captions):
    model = _pretrainer(captions)
    losses = model(**_batch())
    expected = {
        "loss_global_long",
        "loss_global_short",
        "loss_region",
        "loss_hard_negative",
        "accuracy_hard_negative",
    }
    assert set(losses) == expected
    sum(value for key, value in losses.items() if "loss" in key).backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert not without


def test_weights_scale_and_zero_leaves_out(captions):
    batch = _batch()
    full = _pretrainer(captions, weight_region=1.0)(**batch)
    tenth = _pretrainer(captions, weight_region=0.1)(**batch)
    torch.testing.assert_close(tenth["loss_region"], full["loss_region"] * 0.1)
    ablation = _pretrainer(captions, weight_region=0.0, weight_hard=0.0)(**batch)
    assert set(ablation) == {"loss_global_long", "loss_global_short"}


def test_images_without_regions(captions):
    losses = _pretrainer(captions)(**_batch(regions=(0, 0)))
    assert losses["loss_region"].item() == losses["loss_hard_negative"].item() == 0


def test_pixels_are_normalised_as_the_encoder_wants(captions):
    model = _pretrainer(captions)
    seen = {}
    tower = model.encoder.vision_model
    forward = tower.forward_class_and_dense
    tower.forward_class_and_dense = lambda x: seen.setdefault("pixels", x) is None or forward(x)
    batch = _batch()
    batch["image"] = [torch.full((3, 32, 32), 255, dtype=torch.uint8)] * 2
    model(**batch)
    white = (1 - model.encoder.image_mean[0]) / model.encoder.image_std[0]
    torch.testing.assert_close(seen["pixels"][:, 0], torch.full((2, 32, 32), white))


def test_goes_on_from_a_directory(captions, tmp_path):
    first = _pretrainer(captions)
    first.encoder.save_pretrained(tmp_path / "encoder")
    second = FGCLIPPretrainer(str(tmp_path / "encoder"))
    assert all(p.requires_grad for p in second.parameters())
    batch = _batch()
    assert second(**batch)["loss_region"].item() == first(**batch)["loss_region"].item()


def test_steps_learn_and_temperature_stays_bounded(captions):
    model = _pretrainer(captions)
    with torch.no_grad():
        model.encoder.logit_scale.fill_(9.0)
    optimizer = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=3e-3))
    batch = _batch()
    losses = [model.train_step(batch, optimizer)["loss"].item() for _ in range(15)]
    assert losses[-1] < 0.7 * losses[0]
    assert model.encoder.logit_scale.exp().item() <= 100.1
    # After the last step too, and not for weights that nothing trains.
    model = _pretrainer(captions, weight_long=0.0, weight_short=0.0)
    with torch.no_grad():
        model.encoder.logit_scale.fill_(9.0)
        model.encoder.logit_scale_hardneg.fill_(math.log(100))
    model.train_step(batch, OptimWrapper(torch.optim.SGD(model.parameters(), lr=100.0)))
    assert model.encoder.logit_scale_hardneg <= math.log(100) + 1e-6
    assert model.encoder.logit_scale == 9.0


@pytest.mark.parametrize("adapters", [None, dict(type="lora", rank=2, trained=["logit_scale"])])
def test_published_temperature_is_bounded_after_the_last_step_of_a_distributed_model(
    captions, adapters
):
    # Which updates the weights without asking the model.
    model = _pretrainer(captions, adapters=adapters)
    with torch.no_grad():
        model.encoder.logit_scale_hardneg.fill_(4.7)
    assert model.published_weights()["logit_scale_hardneg"] <= math.log(100) + 1e-6


def test_tokenizer_travels_with_the_encoder(captions, tmp_path):
    model = _pretrainer(captions)
    model.encoder.save_pretrained(tmp_path / "encoder")
    loaded = FGCLIP.from_pretrained(tmp_path / "encoder")
    model.encoder.eval()
    texts = ["a red ring", "пять"]
    torch.testing.assert_close(loaded.encode_text(texts), model.encoder.encode_text(texts))


def test_bad_settings_are_named(captions, tmp_path):
    with pytest.raises(ValueError, match="tokenizer_captions"):
        FGCLIPPretrainer(SIZES)
    with pytest.raises(ValueError, match=r"absent\.jsonl"):
        FGCLIPPretrainer(SIZES, tokenizer_captions=str(tmp_path / "absent.jsonl"))
    with pytest.raises(ValueError, match="'tensor'"):
        _pretrainer(captions)(**_batch(), mode="tensor")


def test_groups_of_uneven_length_keep_to_themselves(captions):
    model = _pretrainer(captions, weight_long=0, weight_short=0, weight_region=0)
    batch = _batch(regions=(3, 0))
    groups = [
        ["a red star", "a blue star"],
        ["a blue ring"],
        ["a green cross", "a red cross", "a blue cross"],
    ]
    uneven = model(**{**batch, "hard_captions": [groups, []]})
    single = []
    for row, group in enumerate(groups):
        alone = {**batch, "boxes": [batch["boxes"][0][row : row + 1], torch.zeros(0, 4)]}
        alone |= {"region_captions": [["a red ring"], []], "hard_captions": [[group], []]}
        single.append(model(**alone)["loss_hard_negative"])
    torch.testing.assert_close(uneven["loss_hard_negative"], torch.stack(single).sum() / 2)
    assert single[1] == 0  # the right caption alone: nothing to tell apart
