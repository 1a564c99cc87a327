"""Calculates what tuning FG-CLIP takes: bytes of one GPU, and GPU hours for FineHARD.

Nothing is trained. Weights are counted; what the blocks of the towers keep for the backward pass is
measured on tensors without numbers, under bfloat16 autocast as a CPU has it, with fused attention.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# Last, so that it serves a clone that was not installed and never hides an installed package.
sys.path.append(str(Path(__file__).resolve().parents[1]))

import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from benchmarks.live_bytes import LiveBytes
from fgclip_det.encoders import FGCLIP, FGCLIP2, DualEncoder, FGCLIP2Config, FGCLIPConfig
from fgclip_det.encoders.layers import Transformer
from fgclip_det.exit_codes import Parser, run_tool, say

# Rank of the adapters; captions of a picture: of 4 boxes, each with 10 wrong ones.
GIB, RANK, CAPTIONS = 2**30, 16, 44
# Pictures' tokens, and those of a long and of a short caption.
MODELS = {
    "FG-CLIP B": (lambda: FGCLIP(FGCLIPConfig.base()), 197, 248, 77),
    "FG-CLIP L": (lambda: FGCLIP(FGCLIPConfig.large()), 577, 248, 77),
    "FG-CLIP 2 B": (lambda: FGCLIP2(FGCLIP2Config.base()), 576, 196, 64),
}


def kept_bytes(tower: nn.Module, length: int, recompute: bool) -> int:
    """Bytes that the blocks of a tower hold for each row of so many tokens."""
    blocks: Transformer = tower.encoder

    def held(rows: int) -> int:
        hidden = torch.empty(rows, length, tower.config.hidden_size, requires_grad=True)
        with LiveBytes() as live, torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            for block in blocks.layers:
                block.recomputes = recompute
                hidden = block(hidden)
            return live.now()

    # Of more rows less of fewer: the casts of weights are held once, whatever the batch.
    return (held(16) - held(8)) // 8


def tuned(encoder: DualEncoder) -> tuple[int, int]:
    """Parameters that full tuning and adapters on all layers of the blocks train."""
    towers = (encoder.vision_model.encoder, encoder.text_model.encoder)
    layers = [one for tower in towers for one in tower.modules() if isinstance(one, nn.Linear)]
    adapters = sum(RANK * (one.in_features + one.out_features) for one in layers)
    return sum(p.numel() for p in encoder.parameters()), adapters


def flops(encoder: DualEncoder, tokens: int, long: int, short: int) -> float:
    """Of one picture with its captions, forward and backward: six a weight and token."""
    counts = []
    for tower in (encoder.vision_model, encoder.text_model):
        counts.append(sum(p.numel() for p in tower.encoder.parameters()))
    return 6.0 * (counts[0] * tokens + counts[1] * (long + short * (1 + CAPTIONS)))


def report(args: argparse.Namespace) -> None:
    """Prints a block of lines for each model."""
    for name, (build, tokens, long, short) in MODELS.items():
        with FakeTensorMode():
            encoder = build()
            images, texts = encoder.vision_model, encoder.text_model
            kept = [
                kept_bytes(images, tokens, recompute)
                + kept_bytes(texts, long, recompute)
                + kept_bytes(texts, short, recompute) * (1 + CAPTIONS)
                for recompute in (False, True)
            ]
            work = flops(encoder, tokens, long, short)
            full, lora = tuned(encoder)
        say(f"{name}: {full / 1e6:.1f} M weights, adapters of rank {RANK}: {lora / 1e6:.2f} M")
        for way, trained in (("full", full), ("lora", lora)):
            state = 4 * full + 12 * trained
            shared = state / args.gpus
            say(
                f"  {way}: weights, gradients and AdamW {state / GIB:.2f} GiB a GPU, sharded over "
                f"{args.gpus}: {shared / GIB:.2f} GiB"
            )
        say(f"  blocks keep {kept[0] / 1e6:.1f} MB a picture, recomputed {kept[1] / 1e6:.1f} MB")
        for way, factor in (("kept", 1.0), ("recomputed", 4 / 3)):
            hours = args.pictures * work * factor / (args.tflops * 1e12) / 3600
            say(f"  {work * factor / 1e12:.2f} TFLOP a picture, {way}: {hours:.0f} GPU hours")


def main(argv: list[str] | None = None) -> int:
    """Runs the calculation; returns its exit code."""
    parser = Parser(description=__doc__)
    parser.add_argument("--gpus", type=int, default=8, help="processes that weights are sharded to")
    parser.add_argument("--pictures", type=float, default=12e6, help="pictures to train on")
    parser.add_argument("--tflops", type=float, default=300.0, help="what a GPU does in a second")
    return run_tool(lambda: report(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
