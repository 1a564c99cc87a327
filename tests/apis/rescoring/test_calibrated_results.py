"""A results file and truth make a calibration, by which other results are told and left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fgclip_det.apis import read_image, rescore
from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.calibration import Calibration
from fgclip_det.cli import main
from fgclip_det.datasets.shapes.generator import generate
from fgclip_det.encoders import RegionEncoder, load_encoder
from fgclip_det.hub import cache_folder
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from fgclip_det.vocabulary.competition import Competition

ENCODER = BUNDLED / "encoder"
COUNT, NAMES = 24, 20
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes, boxes of objects and of nothing, and a calibration of some names on them."""
    root = tmp_path_factory.mktemp("shapes")
    generate(root, {"val": COUNT}, seed=3)
    truth = json.loads((root / "annotations" / "val.json").read_text())
    generator = torch.Generator().manual_seed(0)
    results = [(one["image_id"], one["bbox"]) for one in truth["annotations"]]
    for image in truth["images"][1:]:
        for _ in range(3):
            box = (torch.rand(4, generator=generator) * 60 + 4).tolist()
            results.append((image["id"], box))
    scores = (torch.rand(len(results), generator=generator) * 0.9 + 0.05).tolist()
    entries = [
        dict(image_id=image, category_id=1, bbox=box, score=score)
        for (image, box), score in zip(results, scores, strict=True)
        # One picture is without any.
        if image != truth["images"][5]["id"]
    ]
    (root / "results.json").write_text(json.dumps(entries))
    (root / "names.txt").write_text("\n".join(names_of(truth)))
    assert calibrate(root, root / "c.json", "--save-vocabulary", root / "names.json") == 0
    return root


def names_of(truth: dict[str, Any]) -> list[str]:
    """Those that occur most."""
    names = {one["id"]: one["name"] for one in truth["categories"]}
    seen = [names[one["category_id"]] for one in truth["annotations"]]
    return sorted({*seen}, key=lambda name: (-seen.count(name), name))[:NAMES]


def calibrate(root: Path, out: Path, *arguments: object) -> int:
    given = [root / "val", "--truth", root / "annotations" / "val.json", "--out", out]
    given += ["--results", root / "results.json", "--encoder", ENCODER, "--device", "cpu"]
    given += [
        "--vocabulary",
        root / "names.txt",
        "--risk",
        0.5,
        "--delta",
        0.9,
        "--conf-thr",
        0.2,
        "--quiet",
    ]
    return main(["calibrate", *map(str, given), *map(str, arguments)])


@pytest.fixture
def run(root: Path, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Rescored results."""

    def rescored(texts: Path | None = None, **options: Any) -> list[dict[str, Any]]:
        out = tmp_path / "out.json"
        rescore(
            root / "results.json",
            root / "annotations" / "val.json",
            root / "val",
            ENCODER,
            texts or root / "names.txt",
            out,
            device="cpu",
            progress=False,
            with_metrics=False,
            **options,
        )
        return json.loads(out.read_text())

    return rescored


@torch.no_grad()
def log_odds(root: Path) -> dict[tuple, dict[str, float]]:
    """Evidence of each box of the file and each name, by its image, box and category."""
    encoder, vocabulary = load_encoder(ENCODER), Vocabulary.parse(root / "names.txt")
    texts = TextEmbeddings.encode(vocabulary, encoder)
    kept = cache_folder() / "fgclip_det" / "texts"
    rivals = Competition(encoder, cache_dir=kept).against(texts)
    truth = json.loads((root / "annotations" / "val.json").read_text())
    ids = {one["name"]: one["id"] for one in truth["categories"]}
    paths = {one["id"]: root / "val" / one["file_name"] for one in truth["images"]}
    reader, found = RegionEncoder(encoder), {}
    given = json.loads((root / "results.json").read_text())
    for number, path in paths.items():
        entries = [one for one in given if one["image_id"] == number]
        picture = torch.from_numpy(read_image(path)).permute(2, 0, 1)
        boxes = torch.tensor([one["bbox"] for one in entries]).reshape(-1, 4)
        boxes[:, 2:] = (boxes[:, :2] + boxes[:, 2:]).clamp(max=128)
        (regions,) = reader([picture], [boxes])
        for row, name in enumerate(vocabulary.names):
            gone = {other for asked, other in rivals.excluded.tolist() if asked == row}
            rows = [other for other in range(rivals.bank_size) if other not in gone]
            rows += [other for asked, other in rivals.exchanges.tolist() if asked == row]
            compared = torch.cat([texts.embeddings[[row]], rivals.embeddings[rows]])
            logits = 100 * regions.double() @ compared.double().T
            odds = logits[:, 0] - logits[:, 1:].logsumexp(1)
            for one, value in zip(entries, odds.tolist(), strict=True):
                x, y, *_ = one["bbox"]
                found[number, ids[name], round(x), round(y)] = {
                    "encoder": value,
                    "objectness": torch.tensor(one["score"]).double().logit().item(),
                }
    return found


def test_each_result_has_its_confidence_and_is_above_its_threshold(root, run) -> None:
    calibration = Calibration.load(root / "c.json")
    assert calibration.is_fitted and len(calibration.thresholds) == NAMES
    everything = replace(calibration, conf_thr=0.0, thresholds={})
    found, expected = run(calibration=everything), log_odds(root)
    assert len(found) > 10
    for one in found:
        x, y, *_ = one["bbox"]
        evidence = expected[one["image_id"], one["category_id"], round(x), round(y)]
        features = {name: torch.tensor([value]) for name, value in evidence.items()}
        confidence = everything.confidence(features).item()
        assert one["confidence"] == pytest.approx(confidence, abs=1e-4)
    some = replace(calibration, conf_thr=0.3, thresholds={})
    assert run(calibration=some) == [one for one in found if one["confidence"] >= 0.3] != found


def test_thresholds_of_the_file_and_of_the_vocabulary_are_the_same(root, run) -> None:
    calibration = Calibration.load(root / "c.json")
    strict = replace(
        calibration.thresholds[Vocabulary.parse(root / "names.txt").names[0]], value=2.0
    )
    curve = replace(calibration, thresholds={})
    by_file = run(calibration=root / "c.json")
    assert run(root / "names.json", calibration=curve) == by_file
    name, *_ = Vocabulary.parse(root / "names.txt").names
    never = Vocabulary.parse(root / "names.txt").with_thresholds(
        curve.with_thresholds({name: strict}, {})
    )
    truth = json.loads((root / "annotations" / "val.json").read_text())
    (number,) = (one["id"] for one in truth["categories"] if one["name"] == name)
    loose = replace(curve, conf_thr=0.0)
    assert {one["category_id"] for one in run(never, calibration=loose)} == (
        {one["category_id"] for one in run(calibration=loose)} - {number}
    )


def test_without_one_nothing_is_added(root, run) -> None:
    assert {*run()[0]} == {"image_id", "category_id", "bbox", "score"}
    with pytest.warns(UserWarning, match="the vocabulary brings thresholds"):
        assert run(root / "names.json") == run()


def test_a_calibration_of_anything_else_is_refused(root, run) -> None:
    with pytest.raises(ValueError, match=r"detector .* calibrate --results\)"):
        run(calibration=BUNDLED / "calibration.json")
    with pytest.raises(ValueError, match=r"detector .* calibrate --results\)"):
        run(calibration=root / "c.json", region_head={"temperature": 50.0})
    with pytest.raises(ValueError, match=r"detector .* calibrate --results\)"):
        run(calibration=root / "c.json", region_head={"test_cfg": {"max_per_img": 7}})
    with pytest.raises(ValueError, match=r"detector .* calibrate --results\)"):
        run(calibration=root / "c.json", frame={"resize": "squash", "size": 64})
