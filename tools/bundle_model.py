"""Put a trained Shapes detector into the package: small, and loaded like any real one.

python tools/bundle_model.py configs/shapes/ovdet_tiny.py work_dirs/shapes_ovdet/epoch_10.pth
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
from pathlib import Path

# Last, so that it serves a clone that was not installed and never hides an installed package.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from fgclip_det.exit_codes import Parser, needed_packages, notes, run_tool, say

with needed_packages():
    import torch
    from mmengine.config import Config

    from fgclip_det.compat import load_checkpoint_file
    from fgclip_det.io import read_bytes, write_bytes, write_text
    from fgclip_det.vocabulary import Vocabulary

ASSETS = Path(__file__).resolve().parents[1] / "fgclip_det" / "assets" / "shapes"
LIMIT_MB = 6
# What competes in the model's own world: beside the vocabulary lies `attributes.json`, its closed
# lists. Two of the names have a cosine of 0.997, so that words alone tell which say the same.
NEGATIVES = {
    "vocabularies": ["vocabulary.json"],
    "max_cosine": 1.0,
    "attributes": "attributes.json",
    # It was trained on phrases with an article alone.
    "wording": "a {}",
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="config the detector was trained with")
    parser.add_argument("checkpoint", help="its checkpoint")
    parser.add_argument("--out", type=Path, default=ASSETS, help="(default: the package's assets)")
    parser.add_argument(
        "--images", nargs="*", default=[], type=Path, help="pictures to bundle with it"
    )
    return parser.parse_args(argv)


def bundle(config: str, checkpoint: str, out: Path, images: list[Path]) -> None:
    cfg = Config.fromfile(config)
    state = load_checkpoint_file(checkpoint)["state_dict"]
    if not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"checkpoint {checkpoint!r} holds weights that are no tensors")
    half = {
        key: value.half() if value.is_floating_point() else value for key, value in state.items()
    }
    out.mkdir(parents=True, exist_ok=True)
    # To memory: torch would open a name once more, and follow a link that was put there.
    stream = io.BytesIO()
    torch.save({"state_dict": half, "meta": {}}, stream)
    write_bytes(out / "detector.pth", stream.getvalue())
    shutil.copytree(cfg.model.backbone.encoder, out / "encoder", dirs_exist_ok=True)
    Vocabulary.parse(cfg.model.vocabulary).to_json(out / "vocabulary.json")
    kept = {
        "custom_imports": cfg.custom_imports,
        "model": {**cfg.model, "vocabulary": "vocabulary.json"},
        "test_dataloader": {"dataset": {"pipeline": cfg.test_dataloader.dataset.pipeline}},
    }
    kept["model"]["backbone"] = {**cfg.model.backbone, "encoder": "encoder"}
    # The calibration is made of the bundled model, by `fgclip-det calibrate`.
    own = {"negatives": NEGATIVES, "calibration": "calibration.json"}
    kept["model"]["test_cfg"] = {**cfg.model.test_cfg, **own}
    write_text(out / "config.py", Config(kept).pretty_text)
    for image in images:
        (out / "images").mkdir(exist_ok=True)
        write_bytes(out / "images" / image.name, read_bytes(image, "picture"))
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6
    say(f"{out}: {size:.1f} MB")
    if size > LIMIT_MB:
        raise ValueError(f"{size:.1f} MB is more than the {LIMIT_MB} MB the package may hold")


def main(argv: list[str] | None = None) -> int:
    def run() -> None:
        with notes():
            bundle(**vars(parse_args(argv)))

    return run_tool(run)


if __name__ == "__main__":
    sys.exit(main())
