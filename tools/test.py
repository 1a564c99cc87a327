"""Evaluate the checkpoint of a detector, with MMDetection's flags; or on FG-OVD's subsets.

python tools/test.py configs/shapes/ovdet_tiny.py work_dirs/shapes_ovdet/epoch_10.pth
python tools/test.py configs/fg_ovd/ovdet_fgclip_b_640_hard.py epoch_3.pth --subsets all
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

# Last, so that it serves a clone that was not installed and never hides an installed package.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from fgclip_det.exit_codes import Parser, leave, needed_packages, run_tool, say

with needed_packages():
    from mmdet.registry import METRICS
    from mmengine.config import Config
    from mmengine.registry import RUNNERS

    from fgclip_det.apis import check_weights
    from fgclip_det.apis.fg_ovd import add_flags, evaluate_subsets, given_flags
    from fgclip_det.engine import ConfigOptionsAction, linked_processes, read_config, set_launcher
    from fgclip_det.io import write_json

NEEDS = ("model", "test_cfg", "test_dataloader", "test_evaluator")
SUBSETS_NEED = ("model", "test_dataloader")
MMDET_FLAGS = ("out", "show", "show_dir", "wait_time", "launcher")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", nargs="?", help=".pth or .safetensors, if one is needed")
    parser.add_argument("--work-dir", help="folder for the log and metrics.json")
    parser.add_argument("--out", metavar="FILE.pkl", help="keep the predictions in a pickle file")
    parser.add_argument("--show", action="store_true", help="show the predictions in a window")
    parser.add_argument("--show-dir", help="folder for pictures of the predictions")
    parser.add_argument("--wait-time", type=float, default=2, help="seconds a shown one stays")
    parser.add_argument(
        "--cfg-options", nargs="+", action=ConfigOptionsAction, help="overrides: key.sub=value"
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    add_flags(parser)
    return parser


def apply_flags(config: Config, args: argparse.Namespace) -> None:
    set_launcher(config, args.launcher, args.local_rank)
    config.load_from = args.checkpoint
    if args.show or args.show_dir:
        hook = config.default_hooks.get("visualization")
        if hook is None:
            raise ValueError("--show and --show-dir need default_hooks.visualization in the config")
        hook.update(draw=True, show=args.show, wait_time=args.wait_time)
        if args.show_dir:
            hook.test_out_dir = args.show_dir
    if args.out is not None and Path(args.out).suffix not in (".pkl", ".pickle"):
        raise ValueError(f"--out is {args.out!r}: its name must end in .pkl")


def main(argv: Sequence[str] | None = None) -> int:
    parser, args = build_parser(), argparse.Namespace()

    @linked_processes()
    def test() -> None:
        parser.parse_args(argv, args)
        options = given_flags(parser, args, without=MMDET_FLAGS)
        needs = SUBSETS_NEED if options else NEEDS
        config = read_config(args.config, args.cfg_options, args.work_dir, needs)
        if options:
            say(*evaluate_subsets(config, args.checkpoint, **options).split("\n"))
            return
        apply_flags(config, args)
        check_weights(config.model, args.checkpoint)
        if args.out is not None:  # a place that cannot be written is no news for after the work
            Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        config.setdefault("runner_type", "ResumableRunner")
        runner = RUNNERS.build(config)
        runner.register_hook({"type": "KeepCaptionsHook"})
        if args.out is not None:
            dump = {"type": "DumpDetResults", "out_file_path": args.out}
            runner.test_evaluator.metrics.append(METRICS.build(dump))
        metrics = {key: float(value) for key, value in runner.test().items()}
        if runner.rank == 0:
            path = Path(config.work_dir, "metrics.json")
            write_json(path, {k: v if math.isfinite(v) else None for k, v in metrics.items()})
            say("  ".join(f"{key} {value:.2f}" for key, value in metrics.items()))
            say(f"written to {path}")

    return run_tool(test, args)


if __name__ == "__main__":
    leave(main())
