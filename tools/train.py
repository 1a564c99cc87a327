"""Train the model of a config, with MMDetection's flags.

python tools/train.py configs/shapes/ovdet_tiny.py --cfg-options train_dataloader.batch_size=8
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Last, so that it serves a clone that was not installed and never hides an installed package.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from fgclip_det.exit_codes import Parser, leave, needed_packages, run_tool

with needed_packages():
    from mmengine.config import Config
    from mmengine.registry import RUNNERS

    from fgclip_det.datasets.check import check_training_data
    from fgclip_det.engine import (
        AMP_DTYPES,
        ConfigOptionsAction,
        ResumableRunner,
        linked_processes,
        patient_group,
        read_config,
        set_checkpoint,
        set_launcher,
    )

NEEDS = ("model", "train_cfg", "train_dataloader", "optim_wrapper")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="folder for logs and checkpoints")
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    parser.add_argument(
        "--amp-dtype", choices=AMP_DTYPES, help="default: float16 on CUDA, bfloat16 on a CPU"
    )
    parser.add_argument("--auto-scale-lr", action="store_true", help="fit the rate to the batch")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        help="go on from a checkpoint; without a path, from the latest one of the work dir",
    )
    parser.add_argument("--no-data-check", action="store_true", help="trust the training data")
    parser.add_argument(
        "--cfg-options", nargs="+", action=ConfigOptionsAction, help="overrides: key.sub=value"
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    return parser


def apply_flags(config: Config, args: argparse.Namespace) -> None:
    set_launcher(config, args.launcher, args.local_rank)
    if args.amp or args.amp_dtype:
        kind = config.optim_wrapper.get("type", "OptimWrapper")
        if kind not in ("OptimWrapper", "AmpOptimWrapper", "AutocastOptimWrapper"):
            raise ValueError(f"--amp cannot take the place of optim_wrapper.type {kind!r}")
        config.optim_wrapper.type = "AutocastOptimWrapper"
        if args.amp_dtype:
            config.optim_wrapper.dtype = args.amp_dtype
    if args.auto_scale_lr:
        if "base_batch_size" not in (config.get("auto_scale_lr") or {}):
            raise ValueError("--auto-scale-lr needs auto_scale_lr.base_batch_size in the config")
        config.auto_scale_lr.enable = True
    set_checkpoint(config, args.resume)


def main(argv: Sequence[str] | None = None) -> int:
    args = argparse.Namespace()

    @linked_processes()
    def train() -> None:
        build_parser().parse_args(argv, args)
        config = read_config(args.config, args.cfg_options, args.work_dir, NEEDS)
        apply_flags(config, args)
        config.setdefault("runner_type", ResumableRunner.__name__)
        runner = RUNNERS.build(config)
        if not args.no_data_check:
            check_training_data(config, patient_group())
        runner.train()

    return run_tool(train, args)


if __name__ == "__main__":
    leave(main())
