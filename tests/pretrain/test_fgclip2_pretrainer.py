import pytest
import torch
from mmengine.optim import OptimWrapper

from fgclip_det.encoders import FGCLIP2
from fgclip_det.encoders.fgclip2.fgclip2 import REGION_SCALES
from fgclip_det.pretrain import FGCLIP2Pretrainer, FGCLIPPretrainer
from tests.pretrain.golden_batches import total
from tests.tiny_encoders import NAMES

ON_PICTURES = ("long", "short", "region", "hard_contrastive", "hard", "ranking")


def _batch(sizes=((64, 64), (64, 64)), ids=None):
    caption = (lambda text, length="short": text) if ids is None else ids
    count = len(sizes)
    generator = torch.Generator().manual_seed(0)
    return dict(
        image=[
            torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)
            for size in sizes
        ],
        short_caption=[caption(NAMES[i]) for i in range(count)],
        long_caption=[caption(NAMES[-1 - i], "long") for i in range(count)],
        boxes=[torch.tensor([[2.0, 2.0, 20.0, 24.0], [0.0, 8.0, 30.0, 31.0]])] * count,
        region_captions=[[caption(NAMES[i]), caption(NAMES[i + 1])] for i in range(count)],
        hard_captions=[[[caption(name) for name in NAMES[: 3 + i]], []] for i in range(count)],
    )


def test_pictures_of_several_sizes_are_packed(encoder2_dir):
    sizes = [(64, 64), (32, 96)]
    batch = _batch(sizes)
    seen = {}
    model = FGCLIP2Pretrainer(encoder2_dir)
    model._global_losses = lambda pictures, texts, shares: (
        seen.update(p=pictures) or {"loss": pictures.sum()}
    )
    model._region_losses = lambda regions, shares: seen.update(r=regions.regions) or {}
    model(**batch)
    encoder = FGCLIP2.from_pretrained(encoder2_dir)
    for index, image in enumerate(batch["image"]):
        pixels = (image[None] / 255 - 0.5) / 0.5
        alone = encoder.encode_image(pixels, normalize=True)[0]
        torch.testing.assert_close(seen["p"][index], alone, atol=1e-5, rtol=1e-5)
        regions = encoder.encode_regions(pixels, [batch["boxes"][index]], normalize=True)
        own = seen["r"][2 * index : 2 * index + 2]
        torch.testing.assert_close(own, regions, atol=1e-5, rtol=1e-5)


def test_token_ids_are_the_captions(encoder2_dir):
    model = FGCLIP2Pretrainer(encoder2_dir)
    pad = model.encoder.tokenizer.pad_token_id

    def ids(text, length="short"):
        row = model.encoder.tokenizer(text.lower())["input_ids"]
        assert pad not in row[:-1]
        return torch.tensor(row)

    by_text, by_ids = model(**_batch()), model(**_batch(ids=ids))
    for name, value in by_text.items():
        if name != "ranking_threshold":  # and what it acts upon, which goes on
            assert name == "loss_ranking" or value.item() == by_ids[name].item(), name


def test_scales_are_saved_and_read_back(encoder2_dir, tmp_path):
    model = FGCLIP2Pretrainer(encoder2_dir)
    assert model.encoder.logit_scale_hardneg.item() == pytest.approx(4.6052)
    assert not {*REGION_SCALES} & {*FGCLIP2.from_pretrained(encoder2_dir).state_dict()}
    with torch.no_grad():
        model.encoder.logit_scale_finegraind.fill_(3.0)
    model.encoder.save_pretrained(tmp_path / "encoder")
    read = FGCLIP2.from_pretrained(tmp_path / "encoder")
    assert read.fingerprint == model.encoder.fingerprint
    again = FGCLIP2Pretrainer(str(tmp_path / "encoder")).encoder
    assert again.logit_scale_finegraind.item() == 3.0


@pytest.mark.parametrize("kind", [FGCLIPPretrainer, FGCLIP2Pretrainer])
def test_any_objectives_train_what_they_use_and_nothing_else(kind, encoder_dir, encoder2_dir):
    directory = encoder2_dir if kind is FGCLIP2Pretrainer else encoder_dir
    names, batch = list(kind(directory).weights), _batch([(64, 64)])
    alone = [{name, "long" if name == "intra_modal" else name} for name in names]
    for kept in [*alone, *({*names} - {name} for name in names)]:
        model = kind(directory, **{f"weight_{name}": float(name in kept) for name in names})
        losses = model(**batch)
        total(losses).backward()
        found = {name: p.grad is not None for name, p in model.named_parameters()}
        assert found == {name: p.requires_grad for name, p in model.named_parameters()}, kept
        assert sum("loss" in name for name in losses) == len(kept), kept


def test_decay_leaves_alone_what_no_objective_uses(encoder2_dir):
    model = FGCLIP2Pretrainer(encoder2_dir, weight_long=0.0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5))
    model.train_step(_batch(), optimizer)
    kept = {name for name, p in model.named_parameters() if torch.equal(p, before[name])}
    assert "encoder.dense_feature_head.probe" in kept
    assert {name for name in kept if name.startswith("encoder.longtext_head.")}
    assert not {name for name in kept if name.startswith("encoder.boxtext_head.")}


def test_bad_weights_and_batches_are_named(encoder2_dir, encoder_dir):
    with pytest.raises(ValueError, match="weight_ranking is -1"):
        FGCLIP2Pretrainer(encoder2_dir, weight_ranking=-1)
    with pytest.raises(ValueError, match="weight_long is nan"):
        FGCLIP2Pretrainer(encoder2_dir, weight_long=float("nan"))
    everything = {f"weight_{name}": 0.0 for name in ON_PICTURES}
    with pytest.raises(ValueError, match="no objective that looks at pictures"):
        FGCLIP2Pretrainer(encoder2_dir, **everything)
    model = FGCLIP2Pretrainer(encoder2_dir)
    with pytest.raises(ValueError, match=r"image 1 has 64 x 70 pixels.*16-pixel patch"):
        model(**_batch([(64, 64), (64, 70)]))
    batch = _batch()
    batch["region_captions"] = [batch["region_captions"][0], ["a ring"]]
    with pytest.raises(ValueError, match="image 1 has 2 boxes, 1 region_captions and 2 lists"):
        model(**batch)
    with pytest.raises(ValueError, match="2 images, but short_caption is 'a ring'"):
        model(**{**_batch(), "short_caption": "a ring"})
    with pytest.raises(ValueError, match="of image 0 hold 'a ring'"):
        model(**{**_batch(), "hard_captions": [["a ring", []], [[], []]]})
    with pytest.raises(ValueError, match="no image"):
        model(**{name: [] for name in batch})
    with pytest.raises(ValueError, match="resize them first"):
        FGCLIPPretrainer(encoder_dir)(**_batch([(64, 64), (64, 96)]))


def test_captions_stay_where_they_are(encoder2_dir):
    model = FGCLIP2Pretrainer(encoder2_dir)
    batch = {"image": [torch.zeros(1)], "short_caption": [[1, 2]], "boxes": [torch.zeros(0, 4)]}
    model.data_preprocessor._device = torch.device("meta")
    moved = model.data_preprocessor(batch, True)
    assert moved["image"][0].is_meta and moved["boxes"][0].is_meta
    assert moved["short_caption"] is batch["short_caption"]


@pytest.mark.parametrize("kind", [FGCLIPPretrainer, FGCLIP2Pretrainer])
def test_half_precision_compares_in_float32(kind, encoder_dir, encoder2_dir):
    model = kind(encoder2_dir if kind is FGCLIP2Pretrainer else encoder_dir)
    full = model(**_batch())
    with torch.autocast("cpu", torch.bfloat16):
        half = model(**_batch())
    for name, value in half.items():
        assert value.dtype == torch.float32, name
        if "loss_global" in name:
            torch.testing.assert_close(value, full[name], rtol=0.05, atol=0.05)
    total(half).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
