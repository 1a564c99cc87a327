"""Names that say less: is "a ring" found where there is a cyan striped ring?

For each object of Shapes its phrase is asked for with fewer attributes, or as a plural, one name
at a time, and twice as often such a name that nothing in the picture is, as far as there are such:
with one attribute it differs in one word from what is there. Of each the best region counts, by
confidence and by share.

    python benchmarks/shorter_names.py --pictures data/shapes presence_test
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, tensor
from torchvision.ops import box_convert, box_iou
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report
from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.apis.presence.values import Values
from fgclip_det.datasets.shapes.generator import Composition, compositions
from fgclip_det.evaluation.presence import area_under_curve, reliability, share_interval
from fgclip_det.evaluation.presence.summary import RIGHT_IOU
from fgclip_det.io import read_json
from fgclip_det.models.regions.region_classification import to_original

_AT_ONCE = 32
# Questions for what is not there, for each of what is: as the confidences were made for.
_ABSENT = 2


def _plural(name: str) -> str:
    return f"{name}es" if name.endswith("s") else f"{name}s"


FORMS: dict[str, Callable[[Composition], str]] = {
    "a ring": lambda one: f"a {one.shape}",
    "rings": lambda one: _plural(one.shape),
    "a cyan ring": lambda one: f"a {one.color} {one.shape}",
    "a striped ring": lambda one: f"a {one.pattern} {one.shape}",
    "cyan rings": lambda one: _plural(f"{one.color} {one.shape}"),
    "a cyan striped ring": lambda one: f"a {one.name}",
    "cyan striped rings": lambda one: _plural(one.name),
}


class Case(NamedTuple):
    """Of a question the best region: its value, and whether it is right; is the thing there?"""

    value: float
    right: bool
    there: bool


def questions(
    objects: dict[Composition, list[Any]], form: Callable[[Composition], str], seed: list[int]
) -> dict[str, list[Any]]:
    """Names with the boxes of what they mean, and twice as many of nothing in the picture."""
    asked: dict[str, list[Any]] = defaultdict(list)
    for one, boxes in objects.items():
        asked[form(one)] += boxes
    every = dict.fromkeys(map(form, compositions()))
    near = [
        name
        for name in every
        if name not in asked
        and any(len(set(name.split()) - set(there.split())) <= 1 for there in asked)
    ]
    drawn = np.random.default_rng(seed).permutation(len(near))[: _ABSENT * len(asked)]
    return {**asked, **{near[place]: [] for place in drawn}}


def pictures(root: Path, split: str) -> Iterator[tuple[Path, dict[Composition, list[Any]]]]:
    """Files, and the boxes (xywh in pixels) of what they show."""
    coco = read_json(root / "annotations" / f"{split}.json", max_bytes=None)
    names = {one["id"]: Composition(*one["name"].split()) for one in coco["categories"]}
    objects: dict[int, dict[Composition, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for one in coco["annotations"]:
        objects[one["image_id"]][names[one["category_id"]]].append(one["bbox"])
    for image in coco["images"]:
        yield root / split / image["file_name"], objects[image["id"]]


def answers(
    detector: OpenVocabInferencer, given: list[tuple[Path, dict]], kinds: dict[str, Values]
) -> dict[tuple[str, str], list[Case]]:
    """By form and kind of value the cases."""
    found: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for start in tqdm(range(0, len(given), _AT_ONCE), desc="pictures"):
        some = given[start : start + _AT_ONCE]
        images = detector.propose([path for path, _ in some], batch_size=8, progress=False)
        for number, ((_, objects), image) in enumerate(zip(some, images, strict=True), start):
            boxes = to_original(image.regions.boxes, image.regions.image_meta)
            for place, (name, form) in enumerate(FORMS.items()):
                asked = questions(objects, form, [number, place])
                for kind, values in kinds.items():
                    table = values(image.regions, [*asked])
                    for own, true in zip(table.T, asked.values(), strict=True):
                        found[name, kind].append(_case(own, boxes, true))
    return found


def _case(values: Tensor, boxes: Tensor, true: list[Any]) -> Case:
    best = int(values.argmax())
    there = box_convert(tensor(true).reshape(-1, 4), "xywh", "xyxy")
    right = bool((box_iou(boxes[best : best + 1].float(), there.float()) >= RIGHT_IOU).any())
    return Case(float(values[best]), right, bool(true))


def row(name: str, cases: list[Case], threshold: float) -> list[str]:
    """A line of the table."""
    value, right, there = (np.array(column) for column in zip(*cases, strict=True))
    above = value >= threshold
    parts = [(there, above & right), (~there, above)]
    told = []
    for part, hits in parts:
        count, total = int(hits[part].sum()), int(part.sum())
        low, high = share_interval(count, total)
        told.append(f"{100 * count / total:.1f} ({100 * low:.1f} to {100 * high:.1f})")
    area = area_under_curve(value[there], value[~there])
    return [name, *told, f"{area:.4f}", f"{reliability(value, right).error:.4f}", str(len(there))]


def main(argv: list[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    two = {"nargs": 2, "required": True, "metavar": ("SHAPES", "SPLIT")}
    parser.add_argument(
        "--pictures", **two, help="folder of tools/prepare_shapes.py, and a split of it"
    )
    parser.add_argument("--number", type=int, help="so many pictures; all if unset")
    parser.add_argument("--conf-thr", type=float, default=0.5, help="least confidence")
    parser.add_argument("--score-thr", type=float, default=0.3, help="least share")
    args = parser.parse_args(argv)
    detector = OpenVocabInferencer(device="cpu")
    given = list(pictures(Path(args.pictures[0]), args.pictures[1]))[: args.number]
    names = [form(one) for form in FORMS.values() for one in compositions()]
    thresholds = {"confidence": args.conf_thr, "score": args.score_thr}
    found = answers(detector, given, {kind: Values(detector, names, kind) for kind in thresholds})
    for kind, threshold in thresholds.items():
        head = [f"{kind} from {threshold} on", "found, %", "alarms, %", "AUC", "ECE", "questions"]
        print(report.table(head, [row(n, found[n, kind], threshold) for n in FORMS]), end="\n\n")


if __name__ == "__main__":
    main()
