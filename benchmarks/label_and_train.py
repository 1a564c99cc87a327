"""A student trained on labels that no person made, against one trained on the truth.

python benchmarks/label_and_train.py --work-dir work_dirs/label_and_train

Pictures of Shapes hold objects of 12 names and, a quarter, of others. `fgclip-det label` labels
them with the bundled model; the config of `configs/label_and_train` is trained on those labels and
on the true boxes, from the same seed, and both are tested by `tools/test.py` on pictures that
neither saw.
What is done is kept in the work dir, and a run that was cut off goes on.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report, timing
from benchmarks.publishing import publish
from fgclip_det.datasets.shapes.captions import region_caption
from fgclip_det.datasets.shapes.generator import compositions, is_novel, render
from fgclip_det.io import read_json, write_image, write_json

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "configs/label_and_train/rtmdet_tiny.py"
BUNDLED = "fgclip_det/assets/shapes/vocabulary.json"
NAMES, OWN_SHARE, MOST_OBJECTS = 12, 0.75, 4
SOURCES = ("truth", "labels")
# Of the student's AP50 from labels, over that from truth.
TARGET, MINUTES = 0.9, 60
NOTE = (
    "AP50 in percent on {test} pictures that were not labelled, against their true boxes. Of each "
    "seed pictures, weights and order are others. Seconds are wall time, in parentheses CPU time, "
    "of one training with its test, or of labelling {train} pictures."
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", help="JSON to write; the Markdown goes beside it")
    parser.add_argument("--work-dir", type=Path, default=ROOT / "work_dirs/label_and_train")
    parser.add_argument("--seeds", default="0,1,2", help="with commas; each may be run by itself")
    parser.add_argument("--num-train", type=int, default=1500)
    parser.add_argument("--num-test", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=12)
    args = parser.parse_args(argv)
    # What `timing.describe_settings` tells; each training has one thread.
    args.device, args.threads, args.dtype = "cpu", 1, "float32"
    args.rounds = args.seed = args.quick = None
    return args


def make_pictures(folder: Path, number: int, seed: list[int]) -> None:
    """Draws pictures, and writes their true boxes beside the folder, as COCO JSON."""
    every = compositions()
    own = every[5 :: len(every) // NAMES]
    others = [one for one in every if one not in own]
    rng = np.random.default_rng(seed)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    folder.mkdir(parents=True, exist_ok=True)
    for place in tqdm(range(number), desc=folder.name, unit="picture"):
        count = int(rng.integers(1, MOST_OBJECTS + 1))
        num_own = int(rng.binomial(count, OWN_SHARE))
        content = [own[i] for i in rng.choice(len(own), num_own, replace=False)]
        content += [others[i] for i in rng.choice(len(others), count - num_own, replace=False)]
        scene = render(rng, content)
        name = f"{place:06d}.png"
        write_image(folder / name, Image.fromarray(scene.image))
        height, width = scene.image.shape[:2]
        images.append({"id": place + 1, "file_name": name, "width": width, "height": height})
        for item in scene.objects:
            if item.composition in own:
                left, top, right, bottom = item.box
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": place + 1,
                        "category_id": own.index(item.composition) + 1,
                        "bbox": [left, top, right - left, bottom - top],
                        "area": (right - left) * (bottom - top),
                        "iscrowd": 0,
                    }
                )
    categories = [{"id": i, "name": one.name} for i, one in enumerate(own, start=1)]
    told = {"images": images, "annotations": annotations, "categories": categories}
    write_json(folder.with_suffix(".json"), told)
    # Last: where it is there, all is.
    write_json(
        folder.parent / "vocabulary.json",
        {"names": {one.name: [region_caption(one)] for one in own}},
    )


def timed(command: list[str], log: Path) -> tuple[float, float]:
    """Runs a Python script to its end; gives its wall and CPU seconds.

    Raises:
        RuntimeError: It failed; names its log.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with log.open("ab") as stream:
        code = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=environment, stdout=stream, stderr=stream
        ).returncode
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if code:
        raise RuntimeError(f"{command[0]} ended with {code}: {log} tells why")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, used


def label(folder: Path) -> dict[str, Any]:
    """Labels the pictures of a seed with the bundled model."""
    out = folder / "labels"
    command = ["-m", "fgclip_det.cli", "label", str(folder / "train"), "--out", str(out)]
    command += ["--vocabulary", str(folder / "vocabulary.json"), "--negatives", BUNDLED]
    command += ["--model", "bundled", "--format", "coco", "--val-share", "0", "--batch-size", "8"]
    wall, used = timed([*command, "--quiet"], folder / "label.log")
    values = read_json(out / "coco/annotations/train.json", max_bytes=None)
    return {"labels": len(values["annotations"]), "wall": wall, "cpu": used}


def train(folder: Path, source: str, seed: int, epochs: int) -> dict[str, Any]:
    """Trains and tests a student of a seed, on the truth or on the labels."""
    files = {
        "truth": folder / "train.json",
        "labels": folder / "labels/coco/annotations/train.json",
    }
    work_dir = folder / source
    options = [f"randomness.seed={seed}", f"train_cfg.max_epochs={epochs}"]
    options += [f"train_cfg.val_interval={epochs}", f"param_scheduler.1.end={epochs}"]
    options += [f"param_scheduler.1.T_max={epochs}"]
    options += [f"default_hooks.checkpoint.interval={epochs}"]
    loaders = {"train": (files[source], "train/")}
    loaders |= dict.fromkeys(("val", "test"), (folder / "test.json", "test/"))
    for kind, (file, pictures) in loaders.items():
        dataset = f"{kind}_dataloader.dataset"
        options += [
            f"{dataset}.vocabulary={folder / 'vocabulary.json'}",
            f"{dataset}.ann_file={file}",
            f"{dataset}.data_prefix.img={folder / pictures}",
        ]
    options += [f"{kind}_evaluator.ann_file={folder / 'test.json'}" for kind in ("val", "test")]
    rest = ["--work-dir", str(work_dir), "--cfg-options", *options]
    log = folder / f"{source}.log"
    wall, used = timed(["tools/train.py", CONFIG, *rest], log)
    checkpoint = str(work_dir / f"epoch_{epochs}.pth")
    test_wall, test_used = timed(["tools/test.py", CONFIG, checkpoint, *rest], log)
    metrics = read_json(work_dir / "metrics.json")
    ap50 = next(value for key, value in metrics.items() if key.endswith("AP50_all"))
    return {"AP50": ap50, "wall": wall + test_wall, "cpu": used + test_used, "metrics": metrics}


def seed_record(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """All of a seed; what is done already is not done again."""
    settings = {"num_train": args.num_train, "num_test": args.num_test, "epochs": args.epochs}
    folder = args.work_dir / f"seed_{seed}"
    path = folder / "record.json"
    record: dict[str, Any] = read_json(path) if path.is_file() else {**settings, "seed": seed}
    if any(record[key] != value for key, value in settings.items()):
        raise ValueError(
            f"{path} is of other settings: remove {folder}, or name another --work-dir"
        )
    if not (folder / "vocabulary.json").is_file():
        make_pictures(folder / "test", args.num_test, [seed, 2])
        (folder / "vocabulary.json").unlink()
        make_pictures(folder / "train", args.num_train, [seed, 1])
    steps = {"labelling": lambda: label(folder)}
    steps |= {one: lambda one=one: train(folder, one, seed, args.epochs) for one in SOURCES}
    for name, step in steps.items():
        if name not in record:
            record[name] = step()
            write_json(path, record)
            print(f"seed {seed}, {name}: {record[name]}", flush=True)
    return record


def ratio(record: dict[str, Any]) -> float:
    """AP50 from labels over that from truth; 0 where the truth taught nothing."""
    truth = record["truth"]["AP50"]
    return record["labels"]["AP50"] / truth if truth else 0.0


def summary(args: argparse.Namespace, records: list[dict[str, Any]]) -> str:
    """The page's tables."""

    def told(one: dict[str, Any]) -> str:
        return f"{one['wall']:.0f} ({one['cpu']:.0f})"

    rows = [
        [
            str(one["seed"]),
            str(one["labelling"]["labels"]),
            told(one["labelling"]),
            f"{one['truth']['AP50']:.1f}",
            told(one["truth"]),
            f"{one['labels']['AP50']:.1f}",
            told(one["labels"]),
            f"{ratio(one):.3f}",
        ]
        for one in records
    ]
    head = ["seed", "labels", "labelling, s", "AP50 truth", "s", "AP50 labels", "s", "ratio"]
    ratios = [ratio(one) for one in records]
    steps = ("labelling", *SOURCES)
    minutes = sum(one[step]["wall"] for one in records for step in steps) / 60
    used = sum(one[step]["cpu"] for one in records for step in steps) / 60
    verdict = (
        f"The student without a person's box reaches {statistics.mean(ratios):.3f} of the AP50 of "
        f"the one trained on the truth (least {min(ratios):.3f}; target {TARGET}), in "
        f"{minutes:.0f} minutes ({used:.0f} of CPU time; target {MINUTES})."
    )
    note = NOTE.format(train=args.num_train, test=args.num_test)
    own = compositions()[5 :: len(compositions()) // NAMES]
    names = ", ".join(f"{one.name}{' (novel)' * is_novel(one)}" for one in own)
    return "\n".join([verdict, "", report.table(head, rows), "", note, "", f"Names: {names}."])


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; 1: the student misses the target."""
    args = parse_args(argv)
    args.work_dir = args.work_dir.resolve()
    out = Path(args.out or ROOT / "benchmarks/results/label_and_train_cpu.json")
    settings = timing.describe_settings(args)
    print(report.settings_list(settings), flush=True)
    records = []
    for seed in map(int, args.seeds.split(",")):
        records.append(seed_record(args, seed))
        page = summary(args, records)
        title = "Label and train: a student without a person's box"
        publish(out, title, settings, records, page, ())
    ratios = [ratio(one) for one in records]
    return int(statistics.mean(ratios) < TARGET)


if __name__ == "__main__":
    sys.exit(main())
