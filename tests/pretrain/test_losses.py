import math

import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import distributed

from fgclip_det.pretrain import contrastive_loss, hard_negative_loss


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
    loss = contrastive_loss(golden["loss_image_embeds"], golden[texts], golden[scale].exp())
    torch.testing.assert_close(loss, golden[name][0], atol=1e-5, rtol=0)


def test_hard_negative_equals_the_authors(golden):
    texts = golden["loss_hard_text_embeds"].unflatten(0, (6, 11))
    scale = golden["logit_scale_hardneg"].exp()
    loss, accuracy = hard_negative_loss(golden["loss_image_embeds"], texts, scale)
    torch.testing.assert_close(loss, golden["loss_hard_negative"][0], atol=1e-5, rtol=0)
    assert accuracy.item() == pytest.approx(1 / 6)


def test_hand_worked_values():
    eye = torch.eye(2)
    loss = contrastive_loss(eye, eye, torch.tensor(3.0))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-3)), abs=1e-6)
    candidates = torch.stack([eye, eye.flip(0)])
    loss, accuracy = hard_negative_loss(eye[[0, 0]], candidates, torch.tensor(2.0))
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(2))) / 2
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert accuracy.item() == 0.5


def test_no_regions_give_zero_and_a_gradient():
    regions = torch.zeros(0, 4, requires_grad=True)
    loss = contrastive_loss(regions, torch.zeros(0, 4), torch.tensor(1.0))
    hard, _ = hard_negative_loss(regions, torch.zeros(0, 11, 4), torch.tensor(1.0))
    (loss + hard).backward()
    assert loss.item() == hard.item() == 0
    assert regions.grad.shape == (0, 4)


def _embeddings():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2, 5, 8, generator=generator)
    return F.normalize(rows, dim=-1)


def _worker(rank, rendezvous, results):
    distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2
    )
    rows = slice(0, 2) if rank == 0 else slice(2, 5)
    images, texts = (side[rows].clone().requires_grad_() for side in _embeddings())
    loss = contrastive_loss(images, texts, torch.tensor(5.0))
    loss.backward()
    results.put((rank, loss.item(), images.grad.tolist()))
    distributed.barrier()
    distributed.destroy_process_group()


def test_two_processes_of_unequal_share_equal_one(tmp_path):
    images, texts = (side.clone().requires_grad_() for side in _embeddings())
    loss = contrastive_loss(images, texts, torch.tensor(5.0))
    loss.backward()
    context = mp.get_context("spawn")
    results = context.SimpleQueue()
    mp.spawn(_worker, args=(str(tmp_path / "rendezvous"), results), nprocs=2)
    shares = sorted(results.get() for _ in range(2))
    for _, value, _ in shares:
        assert value == pytest.approx(loss.item(), abs=1e-6)
    # Each process holds the whole loss, so that averaging gradients over processes, as DDP does,
    # gives the gradient of one loss over the whole batch.
    gradient = torch.tensor(shares[0][2] + shares[1][2]) / 2
    torch.testing.assert_close(gradient, images.grad, atol=1e-6, rtol=1e-5)
