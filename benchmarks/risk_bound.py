"""Proves the bound of calibrated thresholds on generated pictures and the bundled model.

Calibrates anew 200 times, each on pictures that nothing has seen, and judges each threshold on
20,000 others: the bound may be broken in as many calibrations as the 99 % quantile of
Binomial(200, delta) allows. Asked are some fixed names, and in each picture one near miss: the name
of an object in it with one attribute exchanged, that is nowhere in the picture. Thresholds may go
down as far as their bound allows, so that all of the risk is used.

What the detector reports is written to the work folder shard by shard: run again, it goes on.

    python benchmarks/risk_bound.py --work-dir work_dirs/risk_bound --processes 2
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report
from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.apis.calibrating.evidence import Evidence, best_of_each
from fgclip_det.apis.calibrating.truth import KnownPicture
from fgclip_det.apis.image_regions import ImageRegions
from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.calibration import Calibration, Goal, control, needed_pictures
from fgclip_det.datasets.shapes.captions import attribute_swaps
from fgclip_det.datasets.shapes.generator import compositions, render
from fgclip_det.datasets.shapes.render import Composition
from fgclip_det.io import read_json
from fgclip_det.vocabulary import Vocabulary

NAMES = ("red striped star", "blue plain ring", "green dotted square")
NEAR_MISS = "(a near miss)"
ROLES = (*NAMES, NEAR_MISS)
DELTAS = (0.05, 0.1, 0.2)
RISKS = (0.02, 0.05, 0.1)
CLIP = 3
CALIBRATIONS, PICTURES, JUDGED = 200, 150, 20_000
SHARD = 250


class Job(NamedTuple):
    """Pictures of a shard.

    Attributes:
        path: Where their alarms are written.
        start: Number of the first.
        count: How many there are.
        seed: Of all pictures.
        calibration: Its file.
    """

    path: Path
    start: int
    count: int
    seed: int
    calibration: str


class Asked:
    """The bundled detector, asked about generated pictures."""

    def __init__(self, calibration: str) -> None:
        torch.set_num_threads(1)
        self.calibration = Calibration.load(calibration)
        self.detector = OpenVocabInferencer(device="cpu", calibration=self.calibration)
        self.texts = self.detector.encode(Vocabulary.parse(str(BUNDLED / "vocabulary.json")))
        self.competitors = self.detector.competition.against(self.texts)
        self.iou_threshold = self.detector.model.region_classifier.test_cfg["nms"]["iou_threshold"]
        self.label_of = {name: label for label, name in enumerate(self.texts.names)}

    def alarms(self, rng: np.random.Generator) -> np.ndarray:
        """(R, CLIP) float32: the highest figures of false alarms in a new picture; 0 for none."""
        pool = compositions()
        chosen = rng.choice(len(pool), rng.integers(1, 5), replace=False)
        scene = render(rng, [pool[place] for place in chosen])
        columns = [self.label_of[name] for name in (*NAMES, _near_miss(rng, scene.objects))]
        known = KnownPicture("", boxes=self._boxes(scene.objects, columns))
        (image,) = self.detector.propose([scene.image], progress=False)
        own = self._evidence(image, columns)
        found, _ = best_of_each(own, self.calibration, self.iou_threshold, False)
        right, _ = known.verdicts(found.boxes, found.labels)
        made = np.zeros((len(ROLES), CLIP), np.float32)
        for role in range(len(ROLES)):
            figures = found.figures[(found.labels == role) & ~right][:CLIP]
            made[role, : len(figures)] = figures
        return made

    def _evidence(self, image: ImageRegions, columns: list[int]) -> Evidence:
        """Evidence of the names of some columns, which may repeat."""
        labels = sorted({*columns})
        texts = self.texts.subset([self.texts.names[label] for label in labels])
        rivals = self.competitors.subset(labels)
        (found,) = self.detector.model.evidence([image.regions], texts, rivals)
        places = [labels.index(column) for column in columns]
        features = {name: values[:, places] for name, values in found.features.items()}
        return Evidence(image.regions.boxes, features, found.beaten[:, places])

    def _boxes(self, objects: Any, columns: list[int]) -> dict[int, np.ndarray]:
        made: dict[int, list] = {}
        for role, column in enumerate(columns):
            for one in objects:
                if self.label_of[one.composition.name] == column:
                    made.setdefault(role, []).append(one.box)
        return {role: np.array(boxes, np.float32) for role, boxes in made.items()}


def _near_miss(rng: np.random.Generator, objects: Any) -> str:
    there = {one.composition for one in objects}
    near: list[Composition] = [
        other for one in objects for other in attribute_swaps(one.composition) if other not in there
    ]
    return near[rng.integers(len(near))].name


_asked = cache(Asked)


def write_shard(job: Job) -> int:
    """Write the alarms of a shard's pictures, whole or not at all; returns their number."""
    asked = _asked(job.calibration)
    alarms = [
        asked.alarms(np.random.default_rng([job.seed, place]))
        for place in range(job.start, job.start + job.count)
    ]
    partial_path = job.path.with_suffix(".partial.npy")
    np.save(partial_path, np.stack(alarms))
    os.replace(partial_path, job.path)
    return job.count


def gather(args: argparse.Namespace, total: int) -> np.ndarray:
    """(total, R, CLIP) float32: alarms of all pictures, those of earlier runs among them."""
    folder = args.work_dir
    folder.mkdir(parents=True, exist_ok=True)
    told = {"seed": args.seed, "names": [*NAMES], "clip": CLIP, "shard": SHARD}
    told["calibration"] = Calibration.load(args.calibration).hash
    settings = folder / "settings.json"
    if settings.exists() and read_json(settings) != told:
        raise SystemExit(f"error: {settings} is of other settings: name another --work-dir")
    report.write_json(settings, told)
    jobs = [
        Job(folder / f"{s:06d}-{min(SHARD, total - s)}.npy", s, min(SHARD, total - s), args.seed,
            str(args.calibration))
        for s in range(0, total, SHARD)
    ]  # fmt: skip
    missing = [job for job in jobs if not job.path.exists()]
    done = total - sum(job.count for job in missing)
    with tqdm(total=total, initial=done, desc="pictures", disable=args.quiet) as bar:
        if args.processes == 1:
            for job in missing:
                bar.update(write_shard(job))
        else:
            with ProcessPoolExecutor(args.processes) as pool:
                for count in pool.map(write_shard, missing):
                    bar.update(count)
    return np.concatenate([np.load(job.path) for job in jobs])


def risk_of(value: float, alarms: np.ndarray, goal: Goal) -> float:
    """The risk of a threshold on (N, CLIP) alarms."""
    counts = (alarms >= value).sum(axis=1)
    return float(np.minimum(counts, goal.most).mean())


def judge(goal: Goal, fresh: np.ndarray, judged: np.ndarray) -> dict[str, Any]:
    """How often a bound is broken, by each role alone and by any of them together.

    Args:
        goal: What is to hold.
        fresh: (calibrations, pictures, R, CLIP) alarms.
        judged: (N, R, CLIP) alarms.
    """
    risk = [cache(partial(risk_of, alarms=judged[:, r], goal=goal)) for r in range(len(ROLES))]
    needed = needed_pictures(goal.risk, goal.delta / len(ROLES), goal.most)
    can_together = fresh.shape[1] >= needed
    alone = np.zeros((len(fresh), len(ROLES)))
    together = 0
    for number, pictures in enumerate(fresh):
        alarms = {}
        for role, name in enumerate(ROLES):
            places, ranks = np.nonzero(pictures[:, role])
            alarms[name] = pictures[places, role, ranks], places
            (found,) = control({name: alarms[name]}, len(pictures), goal).values()
            alone[number, role] = risk[role](found.value)
        if can_together:
            bounds = control(alarms, len(pictures), goal)
            risks = [risk[role](bounds[name].value) for role, name in enumerate(ROLES)]
            together += max(risks) > goal.risk
    return {
        **goal._asdict(),
        "broken": dict(zip(ROLES, (alone > goal.risk).sum(axis=0).tolist(), strict=True)),
        "broken_together": together if can_together else None,
        "median_risk": dict(zip(ROLES, np.median(alone, axis=0).tolist(), strict=True)),
        "allowed": allowed(len(fresh), goal.delta),
    }


def allowed(number: int, chance: float) -> int:
    """The 99 % quantile of Binomial(number, chance)."""
    total = 0.0
    for k in range(number + 1):
        total += math.comb(number, k) * chance**k * (1 - chance) ** (number - k)
        if total >= 0.99:
            return k
    return number


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns 1 where a bound was broken too often."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work-dir", type=Path, required=True, help="shards; run again, it goes on"
    )
    parser.add_argument("--calibration", type=Path, default=BUNDLED / "calibration.json")
    parser.add_argument("--calibrations", type=int, default=CALIBRATIONS)
    parser.add_argument("--pictures", type=int, default=PICTURES, help="of each calibration")
    parser.add_argument("--judged", type=int, default=JUDGED)
    parser.add_argument(
        "--risks", type=float, nargs="+", default=RISKS, help="of alarms times the clip"
    )
    parser.add_argument("--deltas", type=float, nargs="+", default=DELTAS)
    parser.add_argument("--seed", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON to write too")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args(argv)
    number = args.calibrations * args.pictures
    alarms = gather(args, number + args.judged)
    fresh = alarms[:number].reshape(args.calibrations, args.pictures, *alarms.shape[1:])
    kinds = [Goal(0.5, 0.5), Goal(0.5, 0.5, "alarms", CLIP)]
    records = [
        judge(kind._replace(risk=risk * kind.most, delta=delta), fresh, alarms[number:])
        for kind, risk, delta in product(kinds, args.risks, args.deltas)
    ]
    print(table(records))
    if args.out is not None:
        places = ("work_dir", "calibration", "out", "quiet")
        settings = {key: str(v) for key, v in vars(args).items() if key not in places}
        settings["calibration"] = Calibration.load(args.calibration).hash
        report.write_json(args.out, {"settings": settings, "cases": records})
    return int(any(too_often(record) for record in records))


def too_often(record: dict[str, Any]) -> bool:
    """Whether a bound was broken more often than chance explains."""
    return max(*record["broken"].values(), record["broken_together"] or 0) > record["allowed"]


def table(records: list[dict[str, Any]]) -> str:
    """Markdown: of each goal how often each role broke it, and how much of the risk was used."""
    head = ["false alarms", "risk", "delta", *ROLES, "all together", "allowed", "median risks"]
    rows = [
        [
            one["kind"],
            f"{one['risk']:g}",
            f"{one['delta']:g}",
            *map(str, one["broken"].values()),
            "-" if one["broken_together"] is None else str(one["broken_together"]),
            str(one["allowed"]),
            " ".join(f"{value:.3f}" for value in one["median_risk"].values()),
        ]
        for one in records
    ]
    return report.table(head, rows)


if __name__ == "__main__":
    sys.exit(main())
