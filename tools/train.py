"""Train the model of a config, with MMDetection's flags.

python tools/train.py configs/shapes/ovdet_tiny.py --cfg-options train_dataloader.batch_size=8
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from fgclip_det.engine.running import read_config, run_tool


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="folder for logs and checkpoints")
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    parser.add_argument(
        "--auto-scale-lr", action="store_true", help="scale the learning rate to the batch size"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        help="go on from a checkpoint; without a path, from the latest one of the work dir",
    )
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, help="override settings: key.sub=value"
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    return parser


def apply_flags(config: Config, args: argparse.Namespace) -> None:
    config.launcher = args.launcher
    if args.amp:
        if not torch.cuda.is_available():
            raise ValueError("--amp needs CUDA, which torch does not find: train without it")
        config.optim_wrapper.type = "AmpOptimWrapper"
        config.optim_wrapper.loss_scale = "dynamic"
    if args.auto_scale_lr:
        if "base_batch_size" not in config.get("auto_scale_lr", {}):
            raise ValueError("--auto-scale-lr needs auto_scale_lr.base_batch_size in the config")
        config.auto_scale_lr.enable = True
    if args.resume == "auto":
        config.resume, config.load_from = True, None
    elif args.resume is not None:
        if not os.path.isfile(args.resume):
            raise ValueError(f"no checkpoint at {args.resume!r} to resume from: check the path")
        config.resume, config.load_from = True, args.resume


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))

    def train() -> None:
        config = read_config(args.config, args.cfg_options, args.work_dir)
        apply_flags(config, args)
        if "train_cfg" not in config or "train_dataloader" not in config:
            raise ValueError(f"config {args.config!r} does not say how to train: no train_cfg")
        runner = RUNNERS.build(config) if "runner_type" in config else Runner.from_cfg(config)
        runner.train()

    return run_tool(train)


if __name__ == "__main__":
    sys.exit(main())
