"""Times a photograph of 480 x 640 with detectors of the hub and FG-CLIP 2-B, and their memory.

Real architectures at the published sizes, random weights: nothing is fetched. For each preset the
detector alone, from stored pixels to boxes; the encoder alone, of 300 boxes; `propose` of the
wrapper around both; and all of it from a file. Peak memory is that of a process of its own.

    python benchmarks/photos.py --threads 2
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import transformers
from mmengine.config import Config
from PIL import Image
from tqdm import tqdm
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report, timing
from benchmarks.publishing import announce, publish
from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.apis.inputs.prepared import prepared
from fgclip_det.encoders import FGCLIP2, FGCLIP2Config, RegionEncoder, build_encoder
from fgclip_det.io import write_json
from fgclip_det.models import HubDetector

SIZE = (480, 640)
BOXES = 300
PARTS = ("detector", "encoder", "wrapper", "file")
# HGNetV2: in, middle and out channels, blocks and layers of each stage, stem.
_B0 = ([16, 64, 256, 512], [16, 32, 64, 128], [64, 256, 512, 1024], [1, 1, 2, 1], 3, [3, 16, 16])
_B4 = (
    [48, 128, 512, 1024],
    [48, 96, 192, 384],
    [128, 512, 1024, 2048],
    [1, 1, 3, 1],
    6,
    [3, 32, 48],
)
PRESETS = {"fast": "D-FINE-S", "balanced": "D-FINE-L", "default": "OWLv2-B/16, objectness"}
Record = dict[str, Any]


def d_fine(stages: tuple, decoder_layers: int, depth: float, expansion: float) -> Any:
    """A D-FINE of the Objects365 checkpoints' sizes."""
    first, middle, last, blocks, layers, stem = stages
    backbone = transformers.HGNetV2Config(
        stem_channels=stem, stage_in_channels=first, stage_mid_channels=middle,
        stage_out_channels=last, stage_num_blocks=blocks, stage_numb_of_layers=[layers] * 4,
        stage_downsample=[False, True, True, True], stage_light_block=[False, False, True, True],
        stage_kernel_size=[3, 3, 5, 5], use_learnable_affine_block=layers == 3,
        hidden_sizes=last, depths=blocks, embedding_size=stem[-1],
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.DFineConfig(
        backbone_config=backbone, encoder_in_channels=last[1:], num_labels=366,
        decoder_layers=decoder_layers, depth_mult=depth, hidden_expansion=expansion,
    )  # fmt: skip
    return transformers.DFineForObjectDetection(config)


def owlv2() -> Any:
    """OWLv2-B/16 at 960 pixels."""
    config = transformers.Owlv2Config(vision_config={"image_size": 960})
    return transformers.Owlv2ForObjectDetection(config)


def write_detector(preset: str, directory: Path, quick: bool) -> int:
    """Write a preset's detector with random weights; returns its number of parameters."""
    values: dict[str, Any] = {"do_resize": True, "do_rescale": True, "resample": 2}
    side = 960 if preset == "default" else 640
    kind = "Owlv2ImageProcessor" if preset == "default" else "RTDetrImageProcessor"
    values |= {"size": {"height": side, "width": side}, "image_processor_type": kind}
    values |= {"do_normalize": preset == "default", "do_pad": preset == "default"}
    if preset == "default":
        network = owlv2()
    elif preset == "balanced" and not quick:
        network = d_fine(_B4, 6, 1.0, 1.0)
    else:
        network = d_fine(_B0, 3, 0.34, 0.5)
    network.save_pretrained(directory)
    write_json(directory / "preprocessor_config.json", values)
    return sum(value.numel() for value in network.parameters())


class Bench:
    """One preset on one picture.

    Args:
        folder: Holds the detector, the encoder and ``picture.png``.
        preset: Of `PRESETS`.
    """

    def __init__(self, folder: Path, preset: str) -> None:
        pipeline = [{"type": "LoadImageFromFile"}, {"type": "PackDetInputs"}]
        pipeline[1]["meta_keys"] = ("img_id", "img_path", "ori_shape", "img_shape")
        model = {
            "type": "OpenVocabWrapper",
            "detector": {"type": "HubDetector", "name": str(folder / preset)},
            "encoder": str(folder / "encoder"),
        }
        dataset = {"dataset": {"pipeline": pipeline}}
        config = Config({"model": model, "test_dataloader": dataset})
        self.inferencer = OpenVocabInferencer(config, device="cpu")
        self.path = folder / "picture.png"
        pixels = np.asarray(Image.open(self.path))
        self.picture = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
        data = prepared(pixels, None, self.inferencer.pipeline)
        data = {"inputs": [data["inputs"]], "data_samples": [data["data_samples"]]}
        self.data = self.inferencer.model.data_preprocessor(data, False)
        self.boxes = self.wrapper()[0].boxes

    def detector(self) -> Any:
        """Boxes of the picture: its resize and the network."""
        return self.inferencer.model.detector.family(self.picture)

    def encoder(self) -> Any:
        """Embeddings of the boxes: its resize and the network."""
        return self.inferencer.model.region_encoder([self.picture], [self.boxes])

    def wrapper(self) -> Any:
        """Regions of the picture."""
        return self.inferencer.model.propose(self.data["inputs"], self.data["data_samples"])

    def file(self) -> Any:
        """Regions of the file."""
        return self.inferencer.propose(self.path, progress=False)

    def decodings(self) -> int:
        """How often the file is opened to be decoded in one pass."""
        with mock.patch("PIL.Image.open", wraps=Image.open) as opened:
            self.file()
        return opened.call_count


def peak_mb(folder: Path, preset: str, part: str) -> float:
    """Peak resident memory of this process, in MB, once it has built and called one part."""
    if part == "encoder":
        encoder = build_encoder(str(folder / "encoder"))
        pixels = torch.from_numpy(np.array(Image.open(folder / "picture.png"))).permute(2, 0, 1)
        boxes = torch.rand(BOXES, 4).mul(240)
        RegionEncoder(encoder)([pixels], [torch.cat([boxes[:, :2], boxes[:, :2] + 99], dim=1)])
    elif part == "detector":
        pixels = torch.from_numpy(np.array(Image.open(folder / "picture.png"))).permute(2, 0, 1)
        HubDetector(folder / preset).find_boxes(pixels)
    else:
        Bench(folder, preset).file()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def measure(folder: Path, preset: str, args: argparse.Namespace) -> Record:
    """Times and memory of a preset."""
    parameters = write_detector(preset, folder / preset, args.quick)
    bench = Bench(folder, preset)
    calls: dict[str, Callable[[], Any]] = {part: getattr(bench, part) for part in PARTS}
    seconds = timing.interleave(calls, args.rounds, "cpu", seed=args.seed, min_seconds=0)
    bare = [sum(pair) for pair in zip(seconds["detector"], seconds["encoder"], strict=True)]
    record = {
        "preset": preset, "label": PRESETS[preset], "parameters": parameters,
        "boxes": len(bench.boxes), "decodings": bench.decodings(), "seconds": seconds,
        "overhead": timing.ratio_of(seconds["wrapper"], bare),
        "file_overhead": timing.ratio_of(seconds["file"], bare),
        "detector_share": timing.ratio_of(seconds["detector"], seconds["encoder"]),
    }  # fmt: skip
    del bench, calls
    record["peak_mb"] = {}
    for part in ("detector", "encoder", "wrapper"):
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as executor:
            record["peak_mb"][part] = executor.submit(peak_mb, folder, preset, part).result()
    return record


def page(records: list[Record]) -> str:
    """A table of times, one of shares, one of memory."""
    times, shares, peaks = [], [], []
    for record in records:
        name = f"{record['preset']} ({record['label']})"
        middle = [f"{statistics.median(record['seconds'][part]):.2f}" for part in PARTS]
        size = f"{record['parameters'] / 1e6:.1f}"
        times.append([name, size, str(record["boxes"]), *middle, str(record["decodings"])])
        keys = ("detector_share", "overhead", "file_overhead")
        ratios = [record[key] for key in keys]
        shares.append(
            [name, *(f"{r['median']:.3f} ({r['min']:.3f} to {r['max']:.3f})" for r in ratios)]
        )
        peaks.append([name, *(f"{value:.0f}" for value in record["peak_mb"].values())])
    head = ["preset", "M parameters", "boxes", *(f"{part} s" for part in PARTS), "decodings"]
    ratio_head = ["preset", "detector / encoder", "wrapper / both", "from a file / both"]
    return "\n\n".join(
        [
            report.table(head, times),
            "Ratios within a round: median (min to max).",
            report.table(ratio_head, shares),
            "Peak resident memory in MB, each in a process of its own.",
            report.table(["preset", "detector", "encoder", "wrapper, from a file"], peaks),
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code (2: the user can mend it)."""
    parser = argparse.ArgumentParser(description=__doc__)
    timing.add_common_arguments(parser)
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS))
    args = parser.parse_args(argv)
    try:
        timing.check_common_arguments(args)
        if args.device != "cpu":
            raise ValueError(f"--device {args.device}: photographs are timed on the CPU alone")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    default = Path(__file__).parent / "results" / "photos_cpu.json"
    out = Path(args.out) if args.out else default
    logging.disable_progress_bar()
    os.environ["HF_HUB_OFFLINE"] = "1"
    settings = announce(args)
    torch.manual_seed(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoder = FGCLIP2(FGCLIP2Config.tiny() if args.quick else FGCLIP2Config.base())
        encoder.save_pretrained(folder / "encoder")
        del encoder
        pixels = np.random.default_rng(args.seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "picture.png")
        presets = tqdm(args.presets, unit="preset", disable=None)
        records = []
        for preset in presets:
            records.append(measure(folder, preset, args))
            tqdm.write(page(records[-1:]), file=sys.stderr)
    return publish(out, "Photographs: time and memory", settings, records, page(records), [])


if __name__ == "__main__":
    sys.exit(main())
