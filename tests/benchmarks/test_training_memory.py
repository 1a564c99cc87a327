"""What the page on memory is calculated by, against counts."""

from __future__ import annotations

from benchmarks.training_memory import RANK, flops, kept_bytes, tuned
from fgclip_det.encoders.adapters import add_lora
from tests.tiny_encoders import tiny_fgclip


def test_adapters_are_counted() -> None:
    encoder = tiny_fgclip()
    everything, adapters = tuned(encoder)
    assert everything == sum(p.numel() for p in encoder.parameters())
    add_lora(encoder, encoder.fingerprint, rank=RANK)
    assert adapters == sum(p.numel() for p in encoder.parameters() if p.requires_grad)


def test_recomputed_blocks_keep_a_row_for_each_token_and_block() -> None:
    tower = tiny_fgclip(depth=3).vision_model
    assert kept_bytes(tower, 10, True) == 4 * 10 * 3 * 32
    assert kept_bytes(tower, 10, False) > 5 * kept_bytes(tower, 10, True)


def test_work_is_six_operations_a_weight_and_token() -> None:
    encoder = tiny_fgclip()
    one, ten = flops(encoder, 1, 0, 0), flops(encoder, 10, 0, 0)
    assert one == 6 * sum(p.numel() for p in encoder.vision_model.encoder.parameters())
    assert ten == 10 * one
