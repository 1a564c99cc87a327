"""Shapes: a generated open-vocabulary detection benchmark in the file formats of the real ones.

192 classes (8 colours x 4 patterns x 6 shapes). A quarter of the compositions is novel, chosen such
that every attribute value and every pair of values occurs among the base ones: what is tested is
composition, not unknown words.

Splits, each from its own random stream:
- ``pretrain`` and ``pretrain_val`` show all 192 compositions. They stand for the web data of an
  image-text encoder, which has met the words of novel classes too.
- ``train`` is for the detector and shows base compositions only.
- ``val`` shows all 192 compositions, about equally often.
- ``presence_val``, ``presence_test``, and ``exemplars`` and ``val_exemplars``, of which things are
  shown instead of said, are more of the like, made where they are asked for.

``pretrain_val``, ``train`` and ``val`` exist as files of FG-OVD too: see `fg_ovd.fg_ovd_files`;
the former, ``val`` and those of presence exist as queries: see `presence.presence_file`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from fgclip_det.datasets.prepare.prepared_files import PreparedFile, check_files, write_files
from fgclip_det.datasets.shapes.captions import (
    hard_negatives,
    long_caption,
    region_caption,
    short_caption,
)
from fgclip_det.datasets.shapes.coco_captions import captions_file
from fgclip_det.datasets.shapes.fg_ovd import fg_ovd_files
from fgclip_det.datasets.shapes.presence import presence_file
from fgclip_det.datasets.shapes.render import (
    COLORS,
    IMAGE_SIZE,
    PATTERNS,
    SHAPES,
    Composition,
    Scene,
    render,
)
from fgclip_det.io import (
    read_image,
    read_json,
    read_json_lines,
    replaced_folder,
    write_json,
    write_text,
)

__all__ = [
    "COLORS",
    "DEFAULT_SPLITS",
    "EXTRA_SPLITS",
    "IMAGE_SIZE",
    "PATTERNS",
    "SHAPES",
    "Composition",
    "Scene",
    "check",
    "compositions",
    "generate",
    "is_novel",
    "render",
]

# Raise it whenever the same seed gives other pictures or files, so that old ones are not reused.
GENERATOR_VERSION = 1
DEFAULT_SPLITS: dict[str, int] = {"pretrain": 8000, "pretrain_val": 200, "train": 2000, "val": 400}
EXTRA_SPLITS = ("presence_val", "presence_test", "exemplars", "val_exemplars")
_STREAMS = {split: number for number, split in enumerate((*DEFAULT_SPLITS, *EXTRA_SPLITS), 1)}
_SETTINGS = "settings.json"
_PAIRS = ("pretrain", "pretrain_val")
_COCO = ("train", "val", *EXTRA_SPLITS)
_FG_OVD = ("pretrain_val", "val")
_FG_OVD_SUBSETS = ("train", *_FG_OVD)
_PRESENCE = (*_FG_OVD, "presence_val", "presence_test")
_DERIVED = {*_FG_OVD_SUBSETS, *_PRESENCE}


def compositions() -> list[Composition]:
    """All 192 compositions in the order of the vocabulary (colour, then pattern, then shape)."""
    return [Composition(c, p, s) for c in COLORS for p in PATTERNS for s in SHAPES]


def is_novel(composition: Composition) -> bool:
    """True if the detector never sees this composition in training (a Latin rule: 1 in 4)."""
    color = list(COLORS).index(composition.color)
    pattern = PATTERNS.index(composition.pattern)
    return (color + pattern + SHAPES.index(composition.shape)) % 4 == 3


def vocabulary() -> dict[str, Any]:
    """The JSON form of the vocabulary: names with their prompts, templates, base/novel groups."""
    classes = compositions()
    return {
        "names": {c.name: [region_caption(c)] for c in classes},
        "templates": ["{}"],
        "groups": {
            "base": [c.name for c in classes if not is_novel(c)],
            "novel": [c.name for c in classes if is_novel(c)],
        },
    }


def _contents(split: str, num_images: int, seed: int) -> list[list[Composition]]:
    """The objects of each picture of a split, dealt from shuffled decks: classes are balanced."""
    rng = np.random.default_rng([seed, _STREAMS[split]])
    pool = [c for c in compositions() if split != "train" or not is_novel(c)]
    deck: list[Composition] = []
    contents = []
    for count in rng.integers(1, 5, num_images).tolist():
        scene: list[Composition] = []
        while len(scene) < count:
            if not deck:
                deck = [pool[i] for i in rng.permutation(len(pool))]
            card = deck.pop()
            # A class appears once in a picture; a repeat at a deck's seam goes to the bottom.
            if card in scene:
                deck.insert(0, card)
            else:
                scene.append(card)
        contents.append(scene)
    return contents


def _draw(job: tuple[str, str, int, int, list[Composition]]) -> dict[str, Any]:
    """Draws and writes one picture; returns its record (the form of pretrain.jsonl)."""
    folder, split, seed, index, content = job
    rng = np.random.default_rng([seed, _STREAMS[split], index])
    scene = render(rng, content)
    name = f"{index:06d}.png"
    Image.fromarray(scene.image).save(Path(folder) / name)
    return {
        "file_name": name,
        "width": IMAGE_SIZE,
        "height": IMAGE_SIZE,
        "short_caption": short_caption(rng, scene),
        "long_caption": long_caption(rng, scene),
        "regions": [
            {
                "bbox": list(item.box),
                "caption": region_caption(item.composition),
                "negatives": hard_negatives(rng, item.composition),
            }
            for item in scene.objects
        ],
    }


def _xywh(box: list[float]) -> list[float]:
    return [box[0], box[1], round(box[2] - box[0], 2), round(box[3] - box[1], 2)]


def _image_entry(index: int, record: dict[str, Any], folder: str = "") -> dict[str, Any]:
    return {
        "id": index + 1,
        "file_name": folder + record["file_name"],
        "width": record["width"],
        "height": record["height"],
    }


def coco_annotations(records: list[dict[str, Any]]) -> dict[str, Any]:
    """COCO detection JSON; category ids 1..192 in vocabulary order."""
    categories = [{"id": i, "name": c.name} for i, c in enumerate(compositions(), start=1)]
    ids = {region_caption(c): i for i, c in enumerate(compositions(), start=1)}
    annotations: list[dict[str, Any]] = []
    for index, record in enumerate(records):
        for region in record["regions"]:
            box = _xywh(region["bbox"])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": ids[region["caption"]],
                    "bbox": box,
                    "area": round(box[2] * box[3], 2),
                    "iscrowd": 0,
                }
            )
    images = [_image_entry(i, record) for i, record in enumerate(records)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _to_fg_ovd(split: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    """FG-OVD benchmark JSON: each caption of each annotation is a category of its own.

    As in the real files, ``file_name`` carries the split's folder.
    """
    annotations: list[dict[str, Any]] = []
    categories: list[dict[str, Any]] = []
    for index, record in enumerate(records):
        for region in record["regions"]:
            first = len(categories) + 1
            captions = [region["caption"], *region["negatives"]]
            categories += [{"id": first + i, "name": name} for i, name in enumerate(captions)]
            box = _xywh(region["bbox"])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": first,
                    "neg_category_ids": list(range(first + 1, first + len(captions))),
                    "bbox": box,
                    "area": round(box[2] * box[3], 2),
                }
            )
    images = [_image_entry(i, record, f"{split}/") for i, record in enumerate(records)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _annotation_texts(split: str, records: list[dict[str, Any]]) -> dict[str, str]:
    """File name -> text of each annotation file of a split."""
    texts = {}
    if split in _PAIRS:
        texts[f"{split}.jsonl"] = "".join(json.dumps(record) + "\n" for record in records)
    if split in _COCO:
        texts[f"{split}.json"] = json.dumps(coco_annotations(records))
    if split in _FG_OVD:
        texts[f"{split}_fgovd.json"] = json.dumps(_to_fg_ovd(split, records))
    return texts


def _settings(split: str, num_images: int, seed: int) -> dict[str, Any]:
    return {
        "generator_version": GENERATOR_VERSION,
        "split": split,
        "seed": seed,
        "num_images": num_images,
    }


def _problem(root: Path, split: str, wanted: dict[str, Any] | None) -> str | None:
    """Why a split on disk is not what is wanted (None: any settings), or None if it is."""
    try:
        recorded = read_json(root / split / _SETTINGS)
    except ValueError as error:
        return str(error)
    checksums = recorded.pop("sha256", {})
    if wanted is not None and recorded != wanted:
        return f"{root / split} was made with {recorded}, not {wanted}"
    if not checksums:
        return f"{root / split / _SETTINGS} lists no annotation files"
    for name, checksum in checksums.items():
        path = root / "annotations" / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
            return f"{path} is missing or was changed"
    num_found = sum(1 for _ in (root / split).glob("*.png"))
    if num_found != recorded["num_images"]:
        return f"{root / split} has {num_found} pictures, not {recorded['num_images']}"
    return None


def _records(jobs: list[Any], workers: int) -> Iterator[dict[str, Any]]:
    if workers == 0:
        yield from map(_draw, jobs)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(_draw, jobs, chunksize=16)


def _generate_split(root: Path, split: str, num_images: int, seed: int, workers: int) -> None:
    """Writes a split beside its final place, then moves it there: never half of one."""
    root.mkdir(parents=True, exist_ok=True)
    with replaced_folder(root / split) as partial:
        contents = _contents(split, num_images, seed)
        jobs = [(str(partial), split, seed, i, content) for i, content in enumerate(contents)]
        progress = tqdm(_records(jobs, workers), total=num_images, desc=split, unit="picture")
        texts = _annotation_texts(split, list(progress))
        checksums = {n: hashlib.sha256(t.encode()).hexdigest() for n, t in texts.items()}
        write_json(partial / _SETTINGS, {**_settings(split, num_images, seed), "sha256": checksums})
        # The settings travel with the pictures. With the old folder gone first and the new one in
        # place last, a run that is cut off in between leaves a split that counts as missing.
        shutil.rmtree(root / split, ignore_errors=True)
        (root / "annotations").mkdir(exist_ok=True)
        for name, text in texts.items():
            write_text(root / "annotations" / name, text)


def _derived_files(root: Path, split: str) -> Iterator[tuple[str, Path, list[PreparedFile]]]:
    """Kind, folder and content of the files that are made of a split on disk."""
    if split in _COCO:
        coco = read_json(root / "annotations" / f"{split}.json", max_bytes=None)
    else:
        lines = read_json_lines(root / "annotations" / f"{split}.jsonl")
        records = [record for _, record in lines]
        coco = coco_annotations(records)
        captions = captions_file(coco["images"], records)
        yield "coco_captions", root / "coco_captions" / "annotations", [captions]
    seed = read_json(root / split / _SETTINGS)["seed"]
    if split in _FG_OVD_SUBSETS:
        folder, files = fg_ovd_files(coco, split, lambda one: not is_novel(one), seed)
        yield "fg_ovd", root / "fg_ovd" / folder, files
    if split in _PRESENCE:
        yield "presence", root / "annotations", [presence_file(coco, split, seed)]


def _update_derived(root: Path, split: str) -> list[str]:
    """Writes those files unless they are there; the kinds that it wrote."""
    written = []
    for kind, folder, files in _derived_files(root, split):
        try:
            check_files(folder, files)
        except ValueError:
            write_files(folder, files)
            written.append(kind)
    return written


def generate(
    root: str | Path,
    splits: dict[str, int] | None = None,
    seed: int = 0,
    workers: int = 0,
) -> list[str]:
    """Generates splits of the benchmark; those on disk that match are kept.

    The files depend on ``splits`` and ``seed`` only, not on ``workers``.

    Args:
        root: Folder to write to; made if missing.
        splits: Number of pictures by split; ``DEFAULT_SPLITS`` if None.
        seed: Seed of all random streams, at least 0.
        workers: Number of processes; 0 works in this one.

    Returns:
        The names of the splits that were written anew, and "coco_captions", "fg_ovd" and
        "presence" if files of these kinds were.

    Raises:
        ValueError: A split is unknown, a number of pictures is below 1, the seed or the number of
            workers is negative, or a file cannot be written.
    """
    splits = DEFAULT_SPLITS if splits is None else splits
    for split, num_images in splits.items():
        if split not in _STREAMS:
            raise ValueError(f"unknown split {split!r}: choose from {', '.join(_STREAMS)}")
        if num_images < 1:
            raise ValueError(f"cannot make {num_images} pictures for {split!r}: give at least 1")
    if seed < 0 or workers < 0:
        raise ValueError(f"seed {seed} and workers {workers} must both be at least 0")
    root = Path(root)
    written = []
    for split, num_images in splits.items():
        if _problem(root, split, _settings(split, num_images, seed)) is None:
            continue
        _generate_split(root, split, num_images, seed, workers)
        written.append(split)
    derived = {
        kind for split in splits if split in _DERIVED for kind in _update_derived(root, split)
    }
    written += sorted(derived)
    root.mkdir(parents=True, exist_ok=True)
    write_json(root / "vocabulary.json", vocabulary())
    return written


def check(root: str | Path, splits: Iterable[str] = tuple(DEFAULT_SPLITS)) -> None:
    """Verifies splits on disk: all files there and unchanged, every picture readable.

    Args:
        root: Folder that ``generate`` wrote.
        splits: Names of the splits that must be there.

    Raises:
        ValueError: Something is missing or damaged; the message says what and how to mend it.
    """
    root, splits = Path(root), list(splits)
    remedy = f"remove the folder {root} and run tools/prepare_shapes.py again"
    for split in splits:
        problem = _problem(root, split, None)
        if problem is not None:
            raise ValueError(f"{problem}: {remedy}")
        for path in tqdm(sorted((root / split).glob("*.png")), desc=f"check {split}"):
            try:
                height, width = read_image(path, "stored").shape[:2]
            except ValueError as error:
                raise ValueError(f"{error}: {remedy}") from error
            if (height, width) != (IMAGE_SIZE, IMAGE_SIZE):
                raise ValueError(
                    f"{path} has {width} x {height} pixels, not {IMAGE_SIZE} x {IMAGE_SIZE}: "
                    f"{remedy}"
                )
    if read_json(root / "vocabulary.json") != vocabulary():
        raise ValueError(f"{root / 'vocabulary.json'} is not the vocabulary of Shapes: {remedy}")
    for split in splits:
        if split in _DERIVED:
            for _, folder, files in _derived_files(root, split):
                check_files(folder, files)
