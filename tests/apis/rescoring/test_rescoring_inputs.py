"""Categories, masks and pictures of what is scored anew: kept, told of, or refused."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fgclip_det.apis import rescore
from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.apis.rescoring.rescoring import Rescored
from fgclip_det.datasets.shapes.generator import generate
from fgclip_det.encoders import FGCLIP
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from tests.messages import says

ENCODER, WORDS = BUNDLED / "encoder", BUNDLED / "vocabulary.json"
ENSEMBLE = dict(fusion="ensemble", alpha=0.0, beta=1.0)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures; tests share them: copy what you change."""
    root = tmp_path_factory.mktemp("shapes")
    generate(root, {"val": 8}, seed=3)
    return root


def annotations_of(root: Path) -> dict[str, Any]:
    return json.loads((root / "annotations" / "val.json").read_text())


def entries_of(root: Path, base_only: bool = True) -> list[dict[str, Any]]:
    """The objects themselves, as a detector of the base classes would find them."""
    file = annotations_of(root)
    base = set(Vocabulary.parse(WORDS).base_classes)
    wanted = {c["id"] for c in file["categories"] if not base_only or c["name"] in base}
    return [
        dict(image_id=a["image_id"], category_id=a["category_id"], bbox=a["bbox"], score=0.8)
        for a in file["annotations"]
        if a["category_id"] in wanted
    ]


def run(root: Path, entries: list[dict], out: Path, **options: Any) -> tuple[Rescored, list[dict]]:
    proposals = out.with_name("proposals.json")
    proposals.write_text(json.dumps(entries))
    done = rescore(
        proposals,
        options.pop("annotations", root / "annotations" / "val.json"),
        root / "val",
        ENCODER,
        options.pop("texts", WORDS),
        out,
        device="cpu",
        progress=False,
        **options,
    )
    return done, json.loads(out.read_text())


def test_foreign_categories_are_refused(shapes: Path, tmp_path: Path) -> None:
    entries, out = entries_of(shapes), tmp_path / "out.json"
    known = [category["id"] for category in annotations_of(shapes)["categories"]]
    few, most = min(known), max(known)
    count = len(entries)
    for ids, foreign in (
        # Some, all, and places from 0 in place of ids from 1.
        ([9999, *[few] * (count - 1)], 1),
        ([most + k + 1 for k in range(count)], count),
        ([few - 1, few - 1, *[few] * (count - 2)], 2),
    ):
        given = [{**one, "category_id": i} for one, i in zip(entries, ids, strict=True)]
        with pytest.raises(ValueError, match=says(f"{foreign} of {count} boxes", most, "val.json")):
            run(shapes, given, out, region_head=ENSEMBLE)
        # Without the detector's classes its ids do not matter.
        assert run(shapes, given, out)[0].detections
        out.unlink()


def test_places_in_place_of_ids_are_refused(shapes: Path, tmp_path: Path) -> None:
    """Counted from 0, where all are ids of the file too, of other categories."""
    entries, out = entries_of(shapes), tmp_path / "out.json"
    shifted = [{**one, "category_id": one["category_id"] - 1} for one in entries]
    assert min(one["category_id"] for one in shifted) > 0
    words = says(f"of {len(entries)} boxes", f"{len(entries)} have its place, counted from 0")
    with pytest.raises(ValueError, match=words):
        run(shapes, shifted, out, region_head=ENSEMBLE)


def test_categories_outside_the_base_group_are_told(shapes: Path, tmp_path: Path) -> None:
    out, entries = tmp_path / "out.json", entries_of(shapes, base_only=False)
    base = len(entries_of(shapes))
    assert 0 < base < len(entries)
    with pytest.warns(UserWarning, match=f"{len(entries) - base} of {len(entries)} boxes are of"):
        run(shapes, entries, out, region_head=ENSEMBLE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done, _ = run(shapes, entries_of(shapes), out, region_head=ENSEMBLE)
    assert done.metrics["AP50_base"] > 50
    ids = {one["category_id"] for one in entries_of(shapes)}
    novel = [one for one in entries if one["category_id"] not in ids]
    with pytest.raises(ValueError, match=says(f"none of the {len(novel)} boxes", "base group")):
        run(shapes, novel, out, region_head=ENSEMBLE)


def test_masks_stay_with_their_boxes(shapes: Path, tmp_path: Path) -> None:
    entries = entries_of(shapes, base_only=False)
    side = annotations_of(shapes)["images"][0]["height"]
    masks: dict[tuple, Any] = {}
    for k, one in enumerate(entries):
        x, y, width, height = one["bbox"]
        shapes_of_masks = (
            [[x, y, x + width, y, x, y + height]],
            {"size": [side, side], "counts": [k, side * side - k]},
            {"size": [side, side], "counts": "PPo0" + "1" * k},
            None,
        )
        masks[(one["image_id"], *(round(v, 3) for v in one["bbox"]))] = shapes_of_masks[k % 4]
        if k % 4 < 3:
            one["segmentation"] = shapes_of_masks[k % 4]
        one["score"] = 0.5 + k / 1000
    # Copies that suppression drops, with masks of their own.
    copies = [
        {**one, "score": 0.01, "segmentation": [[0, 0, 1, 1, 0, 1.5]]}
        for one in json.loads(json.dumps(entries))
    ]
    _, found = run(shapes, [*copies, *entries], tmp_path / "out.json")
    assert len(found) > 5
    for one in found:
        key = (one["image_id"], *one["bbox"])
        assert one.get("segmentation") == masks[key]
        assert ("segmentation" in one) == (masks[key] is not None)
    bare = [{k: v for k, v in one.items() if k != "segmentation"} for one in [*copies, *entries]]
    _, plain = run(shapes, bare, tmp_path / "bare.json")
    assert plain == [{k: v for k, v in one.items() if k != "segmentation"} for one in found]


def turned(root: Path, folder: Path, entry: int, size: tuple[int, int]) -> Path:
    """A copy of the first picture of another shape, whose EXIF entry says to turn it."""
    shutil.copytree(root, folder)
    path = folder / "val" / annotations_of(root)["images"][0]["file_name"]
    exif = Image.Exif()
    exif[0x0112] = entry
    Image.open(path).resize(size).save(path, exif=exif)
    return path


def test_pictures_are_read_as_they_are_stored(shapes: Path, tmp_path: Path) -> None:
    """An entry that turns a square one by half changes nothing."""
    own = entries_of(shapes, base_only=False)
    side = annotations_of(shapes)["images"][0]["height"]
    turned(shapes, tmp_path / "copy", 3, (side, side))
    _, found = run(tmp_path / "copy", own, tmp_path / "turned.json")
    assert found == run(shapes, own, tmp_path / "plain.json")[1]


@pytest.mark.parametrize("shown", [False, True])
def test_annotations_of_the_turned_picture_are_said(
    shapes: Path, tmp_path: Path, shown: bool
) -> None:
    side = annotations_of(shapes)["images"][0]["height"]
    path = turned(shapes, tmp_path / "copy", 6, (side, side // 2))
    file = annotations_of(shapes)
    width, height = (side // 2, side) if shown else (side, side // 2)
    file["images"][0].update(width=width, height=height)
    (tmp_path / "val.json").write_text(json.dumps(file))
    first = file["images"][0]["id"]
    own = [dict(image_id=first, category_id=1, bbox=[1, 1, 30, 30], score=0.5)]
    options = dict(annotations=tmp_path / "val.json", with_metrics=False)
    if not shown:
        assert run(tmp_path / "copy", own, tmp_path / "out.json", **options)[0].detections == 1
        return
    sizes = (f"{side} x {side // 2} px", f"annotated with {side // 2} x {side}")
    with pytest.raises(ValueError, match=says(path.name, *sizes, "EXIF", "stored")):
        run(tmp_path / "copy", own, tmp_path / "out.json", **options)


def cut_off(root: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """A run that ends after its first picture."""
    seen: list[int] = []

    def stop(*_: Any) -> None:
        seen.append(1)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fgclip_det.apis.rescoring.job.Job._read", _after(stop))
        with pytest.raises(KeyboardInterrupt):
            run(root, entries_of(root), out, **options)
    assert out.with_name(out.name + ".part").exists()


def _after(stop):
    from fgclip_det.apis.rescoring.job import Job

    read = Job._read

    def reading(*arguments: Any) -> torch.Tensor:
        stop()
        return read(*arguments)

    return reading


def test_what_another_run_began_is_not_gone_on_with(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, entries = tmp_path / "out.json", entries_of(shapes)
    texts = TextEmbeddings.encode(Vocabulary.parse(WORDS), FGCLIP.from_pretrained(ENCODER))
    cut_off(shapes, out, monkeypatch, texts=texts)
    masked = [{**one, "segmentation": [[0, 0, 1, 1, 0, 1]]} for one in entries]
    shutil.copytree(shapes, tmp_path / "copy")
    others = TextEmbeddings(
        texts.vocabulary, texts.embeddings.flip(0), texts.encoder_fingerprint, texts.text_length
    )
    monkeypatch.setattr("fgclip_det.apis.rescoring.job._VERSION", 1)
    with pytest.raises(ValueError, match="holds the beginning of another run"):
        run(shapes, entries, out, texts=texts)
    monkeypatch.undo()
    for root, given, options in (
        (shapes, masked, dict(texts=texts)),
        (tmp_path / "copy", entries, dict(texts=texts)),
        (shapes, entries, dict(texts=others)),
        (shapes, entries, dict(texts=texts, frame=dict(interpolation="bilinear"))),
        (shapes, entries, dict(texts=texts, region_head=dict(one_label=False))),
    ):
        with pytest.raises(ValueError, match="holds the beginning of another run"):
            run(root, given, out, **options)
    run(shapes, entries, out, texts=texts)
    assert not (tmp_path / "out.json.part").exists()


def test_what_cannot_be_is_refused(shapes: Path, tmp_path: Path) -> None:
    entries, out = entries_of(shapes), tmp_path / "out.json"
    texts = TextEmbeddings.encode(Vocabulary.parse(WORDS), FGCLIP.from_pretrained(ENCODER))
    for value in (math.nan, math.inf, 0.0):
        rows = texts.embeddings.clone()
        rows[3] = value
        broken = TextEmbeddings(texts.vocabulary, rows, texts.encoder_fingerprint)
        with pytest.raises(ValueError, match=says("1 of 192", texts.names[3], "encode")):
            run(shapes, entries, out, texts=broken)
    for settings, message in (
        (dict(batch_size=True), "batch_size is True"),
        (dict(batch_size="2"), "batch_size is '2'"),
        (dict(region_head=dict(temperature=math.inf)), "temperature is inf"),
        (dict(region_head=dict(temperature=-1)), "temperature must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            run(shapes, entries, out, **settings)


def test_a_file_half_of_lvis_is_refused(shapes: Path, tmp_path: Path) -> None:
    file = annotations_of(shapes)
    file["categories"][0]["frequency"] = "r"
    (tmp_path / "val.json").write_text(json.dumps(file))
    options = dict(annotations=tmp_path / "val.json")
    with pytest.raises(ValueError, match=says("1 of 192 categories", "'frequency'", "LVIS")):
        run(shapes, entries_of(shapes), tmp_path / "out.json", **options)
    done, _ = run(shapes, entries_of(shapes), tmp_path / "out.json", with_metrics=False, **options)
    assert done.metrics == {}
