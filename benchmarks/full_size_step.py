"""One training step of a config at its full size on the CPU: forward, backward, optimizer.

python benchmarks/full_size_step.py configs/ov_coco/ovdet_fgclip_l_896_3e_ov_coco.py

The encoder has the published sizes and layout and random weights; nothing is downloaded. One
picture of random pixels, of the side that the config pads to. Prints what each part took, the
operations of the forward and of the backward pass (torch's FlopCounterMode: matrix products,
convolutions and attention), and the peak of the process's memory (VmHWM), the making of the encoder
included. Needs Linux.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

# Last, so that it serves a clone that was not installed and never hides an installed package.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from fgclip_det.encoders import FGCLIP, FGCLIPConfig, train_tokenizer
from fgclip_det.engine import read_config
from fgclip_det.exit_codes import run_tool
from fgclip_det.models import OpenVocabTwoStageDetector
from fgclip_det.vocabulary import Vocabulary

# isort: split
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

SIZES = {"base": FGCLIPConfig.base(), "large": FGCLIPConfig.large()}
OBJECTS = 8


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="config of a detector on an FG-CLIP of a published size")
    parser.add_argument("--threads", type=int, help="threads of torch; its own choice if not given")
    parser.add_argument("--seed", type=int, default=0, help="of weights, pixels and boxes")
    return parser


def write_random_encoder(size: str, directory: Path, words: Sequence[str]) -> None:
    """Write an FG-CLIP of a published size in the published layout; its tokenizer knows `words`."""
    tokenizer = train_tokenizer(list(words), 600)
    sizes = SIZES[size]
    # The table of tokens keeps its published size; only the end token is the tokenizer's.
    text = replace(sizes.text, eos_token_id=tokenizer.eos_token_id)
    FGCLIP(replace(sizes, text=text), tokenizer).save_pretrained(directory)


def build_detector(config: Config, directory: Path) -> OpenVocabTwoStageDetector:
    """The config's detector on the encoder in `directory`, in train mode."""
    model = config.model
    model.backbone.encoder = str(directory)
    model.vocabulary = "ov_coco"
    model.text_cache_dir = None
    init_default_scope("mmdet")
    detector = MODELS.build(model)
    detector.init_weights()
    # As MMEngine's runner does in a single process.
    return revert_sync_batchnorm(detector).train()


def make_batch(side: int, num_classes: int) -> dict:
    """One square picture of random pixels with random boxes, as a data loader gives it."""
    corners = torch.rand(OBJECTS, 2) * side * 0.6
    boxes = torch.cat([corners, corners + side * (0.05 + 0.3 * torch.rand(OBJECTS, 2))], dim=1)
    shape = (side, side)
    sample = DetDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, scale_factor=(1, 1)))
    labels = torch.randint(0, num_classes, (OBJECTS,))
    sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
    image = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
    return {"inputs": [image], "data_samples": [sample]}


def peak_memory() -> float:
    """Most memory that this process ever held, in GiB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 2**20


def step(detector: OpenVocabTwoStageDetector, optim_wrapper: dict, batch: dict) -> dict[str, float]:
    """One step with the config's optimizer.

    Returns:
        Seconds of "forward", "backward" and "optimizer", their "operations", and the "loss".

    Raises:
        ValueError: The loss is not finite, or no parameter has moved.
    """
    optimizer = build_optim_wrapper(detector, optim_wrapper)
    data = detector.data_preprocessor(batch, True)
    watched = detector.roi_head.bbox_head.fc_embed.weight
    before = watched.detach().clone()
    moments = [time.perf_counter()]
    with FlopCounterMode(display=False) as forward:
        total, _ = detector.parse_losses(detector(**data, mode="loss"))
    moments.append(time.perf_counter())
    with FlopCounterMode(display=False) as backward:
        optimizer.backward(total)
    moments.append(time.perf_counter())
    optimizer.step()
    moments.append(time.perf_counter())
    if not total.isfinite() or torch.equal(before, watched):
        raise ValueError(f"the step has failed: loss {float(total)}, or no parameter has moved")
    parts = ("forward", "backward", "optimizer")
    spent = {name: moments[i + 1] - moments[i] for i, name in enumerate(parts)}
    operations = {
        "operations, forward": forward.get_total_flops() / 1e12,
        "operations, backward": backward.get_total_flops() / 1e12,
    }
    return {**spent, **operations, "loss": float(total.detach())}


def run(args: argparse.Namespace) -> None:
    """Make everything, take the step, print what it took."""
    config = read_config(args.config, needs=("model", "optim_wrapper"))
    size = next((size for size in SIZES if size in config.model.backbone.encoder), None)
    side = (config.model.get("data_preprocessor") or {}).get("pad_size_divisor")
    if size is None or side is None:
        raise ValueError(
            f"{args.config!r} names the encoder {config.model.backbone.encoder!r} and pads to "
            f"{side}: use a config of FG-CLIP base or large that pads to squares"
        )
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    # It would list how each parameter is initialised.
    MMLogger.get_instance("mmengine", log_level="WARNING")
    vocabulary = Vocabulary.parse("ov_coco")
    with tempfile.TemporaryDirectory() as folder:
        write_random_encoder(size, Path(folder), vocabulary.names)
        detector = build_detector(config, Path(folder))
    print(f"{args.config}: FG-CLIP {size}, {side} x {side}, 1 picture, float32")
    trained = sum(p.numel() for p in detector.parameters() if p.requires_grad)
    whole = sum(p.numel() for p in detector.parameters())
    print(f"parameters: {whole / 1e6:.1f} M, trained {trained / 1e6:.1f} M")
    batch = make_batch(side, len(vocabulary.base_classes))
    for name, value in step(detector, config.optim_wrapper, batch).items():
        unit = "" if name == "loss" else " 10^12" if name.startswith("operations") else " s"
        print(f"{name}: {value:.3f}{unit}")
    print(f"threads: {torch.get_num_threads()}")
    print(f"peak memory: {peak_memory():.2f} GiB")


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    return run_tool(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
