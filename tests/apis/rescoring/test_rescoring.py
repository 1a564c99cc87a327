"""Boxes of a results file get the names and scores that a loop over them would give."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision.ops import batched_nms

from fgclip_det.apis import read_image, rescore
from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.apis.rescoring.rescoring import Rescored
from fgclip_det.datasets.shapes.generator import generate
from fgclip_det.encoders import FGCLIP
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from tests.messages import says
from tests.tiny_encoders import tiny_fgclip2

COUNT = 6
ENCODER, WORDS = BUNDLED / "encoder", BUNDLED / "vocabulary.json"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes, and class-agnostic proposals: objects shifted a little, and boxes of nothing."""
    root = tmp_path_factory.mktemp("shapes")
    generate(root, {"val": COUNT}, seed=3)
    file = json.loads((root / "annotations" / "val.json").read_text())
    generator = torch.Generator().manual_seed(0)
    results = []
    for one in file["annotations"]:
        for _ in range(4):
            shift = torch.rand(2, generator=generator) * 4 - 2
            x, y = (torch.tensor(one["bbox"][:2]) + shift).clamp(min=0).tolist()
            width, height = min(one["bbox"][2], 128 - x), min(one["bbox"][3], 128 - y)
            results.append((one["image_id"], [x, y, width, height]))
    for image in file["images"]:
        for _ in range(10):
            x, y, width, height = (torch.rand(4, generator=generator) * 60 + 4).tolist()
            results.append((image["id"], [x, y, width, height]))
    scores = torch.rand(len(results), generator=generator).tolist()
    entries = [
        dict(image_id=image, category_id=1, bbox=box, score=score)
        for (image, box), score in zip(results, scores, strict=True)
    ]
    (root / "proposals.json").write_text(json.dumps(entries))
    return root


def run(root: Path, out: Path, **options: Any) -> Rescored:
    options = {"proposals": root / "proposals.json", "texts": WORDS, **options}
    return rescore(
        options.pop("proposals"),
        options.pop("annotations", root / "annotations" / "val.json"),
        root / "val",
        options.pop("encoder", ENCODER),
        options.pop("texts"),
        out,
        device="cpu",
        progress=False,
        **options,
    )


def by_hand(root: Path, weight: float = 0.5, temperature: float = 100.0) -> list[dict]:
    """RoIAlign, cosine, softmax, weighted mean, arg-max and suppression, box by box."""
    encoder = FGCLIP.from_pretrained(ENCODER)
    vocabulary = Vocabulary.parse(WORDS)
    texts = TextEmbeddings.encode(vocabulary, encoder).embeddings
    file = json.loads((root / "annotations" / "val.json").read_text())
    proposals = json.loads((root / "proposals.json").read_text())
    ids = {category["name"]: category["id"] for category in file["categories"]}
    results = []
    for image in file["images"]:
        pixels = torch.from_numpy(read_image(root / "val" / image["file_name"])).float() / 255
        pixels = (pixels - torch.tensor(encoder.image_mean)) / torch.tensor(encoder.image_std)
        boxes, scores, labels = [], [], []
        for one in (p for p in proposals if p["image_id"] == image["id"]):
            x, y, width, height = one["bbox"]
            box = torch.tensor([[x, y, x + width, y + height]])
            region = encoder.encode_regions(pixels.permute(2, 0, 1)[None], [box], normalize=True)
            chances = (temperature * region @ texts.T).softmax(dim=1)[0]
            label = int(chances.argmax())
            boxes.append(box[0])
            scores.append(one["score"] ** (1 - weight) * float(chances[label]) ** weight)
            labels.append(label)
        kept = batched_nms(torch.stack(boxes), torch.tensor(scores), torch.tensor(labels), 0.5)
        for row in kept.tolist():
            x1, y1, x2, y2 = boxes[row].tolist()
            results.append(
                dict(
                    image_id=image["id"],
                    category_id=ids[vocabulary.names[labels[row]]],
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    score=scores[row],
                )
            )
    return results


def assert_results(found: list[dict], expected: list[dict]) -> None:
    assert len(found) == len(expected) > 20
    for one, other in zip(found, expected, strict=True):
        assert list(one) == ["image_id", "category_id", "bbox", "score"]
        assert (one["image_id"], one["category_id"]) == (other["image_id"], other["category_id"])
        assert one["bbox"] == pytest.approx(other["bbox"], abs=2e-3)
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)


@pytest.mark.parametrize("settings", [{}, dict(weight=0.3, temperature=40.0)])
def test_results_are_those_of_a_loop(root: Path, tmp_path: Path, settings: dict) -> None:
    weight = settings.get("weight", 0.5)
    head = dict(alpha=weight, beta=weight, temperature=settings.get("temperature", 100.0))
    done = run(root, tmp_path / "out.json", region_head=head)
    found = json.loads((tmp_path / "out.json").read_text())
    assert_results(found, by_hand(root, **settings))
    assert list(tmp_path.iterdir()) == [tmp_path / "out.json"]
    assert done.images == COUNT and done.detections == len(found)
    assert done.boxes == len(json.loads((root / "proposals.json").read_text()))


def test_batches_change_nothing(root: Path, tmp_path: Path) -> None:
    run(root, tmp_path / "one.json")
    run(root, tmp_path / "all.json", batch_size=COUNT + 1)
    one, other = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("one", "all"))
    assert_results(one, other)


def test_names_are_found_and_evaluated(root: Path, tmp_path: Path) -> None:
    metrics = run(root, tmp_path / "out.json").metrics
    # The bundled encoder knows Shapes; boxes are nearly those of the objects.
    assert metrics["AP50_all"] > 60
    assert {"AP50_base", "AP50_novel", "AP_all"} <= set(metrics)
    # Turned about, nothing is right.
    names = list(Vocabulary.parse(WORDS).names)
    wrong = {"names": {n: [f"a {o}"] for n, o in zip(names, names[1:] + names[:1], strict=True)}}
    assert run(root, tmp_path / "wrong.json", texts=wrong).metrics["AP50_all"] < 10
    assert run(root, tmp_path / "none.json", with_metrics=False).metrics == {}


def test_pictures_may_be_read_at_another_size(root: Path, tmp_path: Path) -> None:
    """Of 128 pixels, as the encoder was trained at, the picture is the same either way."""
    found = {}
    frames = dict(own={}, canvas=dict(resize="canvas"), large=dict(resize="keep_ratio", size=160))
    for name, frame in frames.items():
        metrics = run(root, tmp_path / "out.json", frame=frame).metrics
        assert metrics["AP50_all"] > 60
        found[name] = json.loads((tmp_path / "out.json").read_text())
    assert found["own"] == found["canvas"] != found["large"]


def test_a_run_that_was_cut_off_goes_on(root: Path, tmp_path: Path, monkeypatch) -> None:
    run(root, tmp_path / "whole.json")
    read, seen = read_image, []

    def read_some(path: Path, orientation: str):
        seen.append(Path(path).name)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return read(path, orientation)

    monkeypatch.setattr("fgclip_det.apis.rescoring.job.read_image", read_some)
    with pytest.raises(KeyboardInterrupt):
        run(root, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()
    part = tmp_path / "out.json.part"
    part.write_bytes(part.read_bytes()[:-10])
    with pytest.raises(ValueError, match="holds the beginning of another run"):
        run(root, tmp_path / "out.json", region_head=dict(beta=0.4))
    run(root, tmp_path / "out.json", batch_size=2)
    assert len(seen) == 4 + COUNT - 2 and len(set(seen)) == COUNT
    assert_results(*(json.loads((tmp_path / f"{n}.json").read_text()) for n in ("out", "whole")))
    assert not part.exists()


def test_a_detector_s_classes_are_part_of_an_ensemble(root: Path, tmp_path: Path) -> None:
    """Of base names the detector has its own score, which for another than its label is none."""
    file = json.loads((root / "annotations" / "val.json").read_text())
    novel = set(Vocabulary.parse(WORDS).novel_classes)
    names = {category["id"]: category["name"] for category in file["categories"]}
    entries = [
        dict(image_id=a["image_id"], category_id=a["category_id"], bbox=a["bbox"], score=0.8)
        for a in file["annotations"]
    ]
    (tmp_path / "truth.json").write_text(json.dumps(entries))
    head = dict(fusion="ensemble", alpha=0.0, beta=1.0)
    done = run(root, tmp_path / "o.json", proposals=tmp_path / "truth.json", region_head=head)
    found = json.loads((tmp_path / "o.json").read_text())
    assert done.metrics["AP50_base"] == pytest.approx(100)
    for one in found:
        if names[one["category_id"]] not in novel:
            assert one["score"] == pytest.approx(0.8)
    plain = {"names": [category["name"] for category in file["categories"]]}
    with pytest.raises(ValueError, match="give a vocabulary with a base group"):
        run(root, tmp_path / "x.json", texts=plain, region_head=head)
    entries = [{k: v for k, v in one.items() if k != "category_id"} for one in entries]
    (tmp_path / "truth.json").write_text(json.dumps(entries))
    with pytest.raises(ValueError, match="needs the category_id of each box"):
        run(root, tmp_path / "x.json", proposals=tmp_path / "truth.json", region_head=head)


def test_ten_thousand_boxes_and_none(root: Path, tmp_path: Path) -> None:
    many = [
        dict(image_id=1, category_id=1, bbox=[i % 64, i // 100, 60, 28], score=(i + 1) / 10_001)
        for i in range(10_000)
    ]
    (tmp_path / "many.json").write_text(json.dumps(many))
    done = run(root, tmp_path / "out.json", proposals=tmp_path / "many.json")
    assert done.images == 1 and done.boxes == 10_000 and 0 < done.detections <= 300
    (tmp_path / "none.json").write_text("[]")
    done = run(root, tmp_path / "out.json", proposals=tmp_path / "none.json")
    assert (done.images, done.boxes, done.detections) == (0, 0, 0)
    assert done.metrics["AP50_all"] == 0
    assert json.loads((tmp_path / "out.json").read_text()) == []


def test_a_split_without_ground_truth_is_named_and_not_evaluated(
    root: Path, tmp_path: Path
) -> None:
    file = json.loads((root / "annotations" / "val.json").read_text())
    del file["annotations"]
    (tmp_path / "test.json").write_text(json.dumps(file))
    done = run(root, tmp_path / "out.json", annotations=tmp_path / "test.json")
    assert done.metrics == {} and done.detections > 0


def test_notes_and_long_captions_are_said(root: Path, tmp_path: Path) -> None:
    entries = json.loads((root / "proposals.json").read_text())
    entries.append(dict(image_id=1, category_id=1, bbox=[-9, 0, 20, 20], score=0.5))
    (tmp_path / "p.json").write_text(json.dumps(entries))
    names = Vocabulary.parse(WORDS).names[:2]
    texts = {"names": {names[0]: ["red " * 300], names[1]: ["blue"]}}
    with pytest.warns(UserWarning) as said:
        run(root, tmp_path / "out.json", proposals=tmp_path / "p.json", texts=texts)
    words = [str(one.message) for one in said]
    assert sum("1 boxes" in text for text in words) == 1
    assert sum("77 tokens" in text for text in words) == 1


def test_what_does_not_fit_is_refused(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    tiny_fgclip2().save_pretrained(tmp_path / "second")
    texts = TextEmbeddings.encode(Vocabulary.parse(WORDS), FGCLIP.from_pretrained(ENCODER))
    texts.save(tmp_path / "t.safetensors")
    cases: list[tuple[dict, str]] = [
        (dict(texts="a cat. a dog"), "2 names .*'a cat'"),
        (dict(encoder=tmp_path / "second", texts=tmp_path / "t.safetensors"), "encode the vocabu"),
        (dict(batch_size=0), "batch_size is 0"),
        (dict(frame=dict(size=100)), "multiple of the 8-pixel patch"),
        (dict(region_head=dict(alpha=2)), "alpha must be in"),
        (dict(region_head=dict(test_cfg=dict(max_per_img=0))), "max_per_img is 0: .* from 1"),
        (dict(region_head=dict(test_cfg=dict(nms=dict(iou_threshold=-1)))), r"in \[0, 1\], got -1"),
        (dict(region_head=dict(temperature=math.nan)), "temperature is nan"),
        (dict(annotations=tmp_path / "none.json"), "none.json' cannot be read"),
        (dict(encoder="nowhere"), "neither a directory nor a hub id"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            run(root, out, **options)
    for place in (tmp_path / "no" / "out.json", tmp_path, tmp_path / "out.txt"):
        with pytest.raises(ValueError, match=says(place.name, ".json", "folder")):
            run(root, place)
    with pytest.raises(ValueError, match=says("proposals.json", "written over")):
        run(root, root / "proposals.json")
    assert not list(tmp_path.glob("out*"))


def test_pictures_that_are_others_are_refused(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "copy")
    copy, out = tmp_path / "copy", tmp_path / "out.json"
    picture = copy / "val" / "000002.png"
    Image.open(picture).resize((128, 64)).save(picture)
    with pytest.raises(ValueError, match=says("000002.png", "128 x 64 pixels")):
        run(copy, out)
    picture.unlink()
    with pytest.raises(ValueError, match="1 of 6 images are missing"):
        run(copy, out)
    shutil.copy(root / "val" / "000002.png", picture)
    run(copy, out)
    assert out.exists() and not (tmp_path / "out.json.part").exists()


def test_the_second_generation(root: Path, tmp_path: Path) -> None:
    """With a tokenizer of its own; random weights name at random."""
    encoder = tiny_fgclip2()
    vocabulary = Vocabulary.parse(WORDS)
    rows = torch.nn.functional.normalize(torch.randn(192, 32), dim=1)
    texts = TextEmbeddings(vocabulary, rows, encoder.fingerprint, "box")
    done = run(root, tmp_path / "out.json", encoder=encoder, texts=texts, batch_size=4)
    assert done.images == COUNT and done.detections > 0
    few = run(root, tmp_path / "few.json", encoder=encoder, texts=texts, frame=dict(max_patches=16))
    assert few.detections > 0


def test_lvis_is_evaluated_as_lvis(generated_coco: Path, tmp_path: Path) -> None:
    annotations = generated_coco / "annotations" / "lvis_v1_val.json"
    file = json.loads(annotations.read_text())
    entries = [
        dict(image_id=a["image_id"], category_id=a["category_id"], bbox=a["bbox"], score=0.9)
        for a in file["annotations"]
        if min(a["bbox"][2:]) > 0
    ]
    (tmp_path / "p.json").write_text(json.dumps(entries))
    names = [category["name"] for category in file["categories"]]
    head = dict(fusion="ensemble", alpha=0.0)
    done = rescore(
        tmp_path / "p.json",
        annotations,
        generated_coco,
        ENCODER,
        {"names": names, "groups": {"base": names}},
        tmp_path / "out.json",
        region_head=head,
        device="cpu",
        progress=False,
    )
    # The detector's own names, which are all that counts with a weight of none for the encoder.
    assert done.metrics["bbox_AP50"] > 95
    assert "bbox_APr" in done.metrics
