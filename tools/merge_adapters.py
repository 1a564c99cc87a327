"""Writes the encoder of a pretraining checkpoint in the published layout, adapters merged into it.

python tools/merge_adapters.py configs/finetune/fgclip_b_lora.py work_dirs/.../iter_2930.pth out/
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# Last, so that it serves a clone that was not installed and never hides an installed package.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from fgclip_det.exit_codes import Parser, needed_packages, run_tool, say

with needed_packages():
    import torch
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    from fgclip_det.compat import load_checkpoint_file
    from fgclip_det.engine import ConfigOptionsAction, read_config
    from fgclip_det.io import check_writable


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="config that the checkpoint was trained by")
    parser.add_argument("checkpoint", help="with adapters, or with all weights")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    parser.add_argument(
        "--cfg-options", nargs="+", action=ConfigOptionsAction, help="overrides: key.sub=value"
    )
    return parser.parse_args(argv)


def merge(args: argparse.Namespace) -> None:
    """Reads the checkpoint into the model of the config, and writes that one's encoder."""
    config = read_config(args.config, args.cfg_options, needs=["model"])
    checkpoint = load_checkpoint_file(args.checkpoint)
    check_writable(args.out.parent)
    init_default_scope(config.get("default_scope", "mmdet"))
    model = MODELS.build(config.model)
    if not hasattr(model, "published_weights"):
        raise ValueError(f"{args.config!r} trains no encoder: name the config of a pretrainer")
    try:
        model.load_state_dict(checkpoint["state_dict"], strict=True)
    except RuntimeError as error:
        raise ValueError(f"{args.checkpoint!r} does not fit {args.config!r}: {error}") from None
    model.encoder.save_pretrained(args.out, getattr(torch, args.dtype), model.published_weights())
    say(f"encoder written to {args.out}")


def main(argv: list[str] | None = None) -> int:
    """Runs the tool; returns its exit code (2: the user can mend it)."""
    args = argparse.Namespace()

    def run() -> None:
        vars(args).update(vars(parse_args(argv)))
        merge(args)

    return run_tool(run, args)


if __name__ == "__main__":
    sys.exit(main())
