"""What is shown, through the doors beside the inferencer's own."""

import json
import warnings

import numpy as np
import pytest
import torch
from mmengine.config import Config
from torchvision.ops import box_iou

from fgclip_det.apis import OpenVocabInferencer, rescore, similarity_maps
from fgclip_det.apis.calibrating.run import Calibrator
from fgclip_det.apis.detector_loading import BUNDLED
from fgclip_det.apis.presence import evaluate_presence
from fgclip_det.apis.presence.values import Values
from fgclip_det.apis.region_texts import encode_texts
from fgclip_det.encoders import load_encoder
from fgclip_det.io import read_image
from fgclip_det.models import OpenVocabWrapper
from fgclip_det.vocabulary import Exemplar, Vocabulary

PICTURE = str(BUNDLED / "images" / "000006.png")
STAR, CROSS = (17, 24, 54, 64), (64, 19, 110, 64)
WORDS = BUNDLED / "vocabulary.json"


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* is shown")
        yield


@pytest.fixture(scope="module")
def detector():
    return OpenVocabInferencer(device="cpu")


@pytest.fixture(scope="module")
def encoder():
    return load_encoder(BUNDLED / "encoder")


def test_a_heat_map_is_hottest_where_the_thing_is(encoder):
    shown = {"star": {"like": Exemplar(PICTURE, STAR)}, "cross": {"like": Exemplar(PICTURE, CROSS)}}
    texts = encode_texts(encoder, Vocabulary.parse(shown), words=WORDS)
    maps = similarity_maps(encoder, read_image(PICTURE), texts)
    for own, (x1, y1, x2, y2) in zip(maps, (STAR, CROSS), strict=True):
        y, x = divmod(int(own.argmax()), own.shape[1])
        x, y = (x + 0.5) * 128 / own.shape[1], (y + 0.5) * 128 / own.shape[0]
        assert x1 <= x <= x2 and y1 <= y <= y2


def test_boxes_of_a_wrapped_detector_are_named_by_what_is_shown(encoder):
    boxes = torch.tensor([STAR, CROSS, (70, 80, 120, 120)]).float()

    def find(picture):
        return boxes, torch.tensor([0.9, 0.9, 0.9])

    config = Config(
        dict(
            model=dict(
                type="OpenVocabWrapper",
                detector=find,
                encoder=str(BUNDLED / "encoder"),
                frame=dict(resize="keep_ratio", size=128),
                test_cfg=dict(negatives=dict(vocabularies=[str(WORDS)], max_cosine=1.0)),
            )
        )
    )
    model = OpenVocabWrapper(**{k: v for k, v in config.model.items() if k != "type"})
    regions = model.regions_at(torch.zeros(1, 3, 128, 128), {"img_shape": (128, 128)}, boxes)
    assert regions.detector_embeddings is None
    assert regions.region_embeddings.shape == (3, encoder.projection_dim)
    from fgclip_det.apis.scores.competing import competition_of
    from fgclip_det.apis.shown.looking import Looking

    def pipeline(data):
        from mmdet.datasets.transforms import PackDetInputs

        keys = ("img_shape", "ori_shape")
        return PackDetInputs(meta_keys=keys)(data)

    looking = Looking.of_detector(model, pipeline, competition_of(model))
    texts = looking.encode(
        Vocabulary.parse({"it": {"like": Exemplar(PICTURE, STAR)}, "ring": ["a ring"]})
    )
    picture = torch.from_numpy(read_image(PICTURE)[..., ::-1].copy()).permute(2, 0, 1)
    data = model.data_preprocessor({"inputs": [picture], "data_samples": None}, False)
    (found,) = model.classify(model.propose(data["inputs"]), texts)
    best = found.bboxes[found.labels == 0][found.scores[found.labels == 0].argmax()]
    assert box_iou(best[None], boxes[:1]) > 0.9


@pytest.fixture
def results_file(tmp_path):
    boxes = {"star": STAR, "cross": CROSS}
    (tmp_path / "a.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "000006.png", "width": 128, "height": 128}],
                "annotations": [],
                "categories": [{"id": 1, "name": "star"}, {"id": 2, "name": "cross"}],
            }
        )
    )
    given = [
        {"image_id": 1, "category_id": 1, "bbox": [a, b, c - a, d - b], "score": 0.9}
        for a, b, c, d in boxes.values()
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(given))
    return tmp_path


def rescored(folder, texts, **more):
    out = folder / "out.json"
    rescore(
        folder / "boxes.json",
        folder / "a.json",
        BUNDLED / "images",
        BUNDLED / "encoder",
        texts,
        out,
        progress=False,
        **more,
    )
    found = {}
    for one in json.loads(out.read_text()):
        found[one["bbox"][0], one["category_id"]] = one["score"]
    return found


def test_boxes_of_a_file_are_named_by_what_is_shown(results_file):
    shown = {
        "star": {"like": Exemplar(PICTURE, STAR)},
        "cross": {"like": Exemplar(PICTURE, CROSS)},
    }
    found = rescored(results_file, shown)
    assert {key for key in found} == {(STAR[0], 1), (CROSS[0], 2)}
    # What a name is told apart from takes its share.
    more = rescored(results_file, {"star": ["a star"], "cross": ["a cross"]})
    cross = {"prompts": ["a cross"], "not": "a purple dotted cross"}
    less = rescored(results_file, {"star": ["a star"], "cross": cross})
    assert less.get((CROSS[0], 2), 0.0) < more[CROSS[0], 2] - 0.1


def test_a_calibration_is_of_what_is_said(results_file, detector):
    with pytest.raises(ValueError, match="'star' is shown, and a calibration is of what is said"):
        rescored(
            results_file,
            {"star": {"like": Exemplar(PICTURE, STAR)}, "cross": ["a cross"]},
            calibration=BUNDLED / "calibration.json",
        )
    shown = detector.encode({"it": {"like": Exemplar(PICTURE, STAR)}})
    with pytest.raises(ValueError, match="calibrate names in words"):
        Calibrator(detector, None, shown)


def test_presence_is_asked_by_what_is_shown(detector, tmp_path):
    queries = [
        {"id": 1, "image_id": 1, "text": "this", "kind": "present", "bboxes": [[17, 24, 37, 40]]},
        {"id": 2, "image_id": 1, "text": "that", "kind": "near_miss", "bboxes": []},
        {"id": 3, "image_id": 1, "text": "other", "kind": "absent", "bboxes": []},
    ]
    images = [{"id": 1, "file_name": "000006.png", "width": 128, "height": 128}]
    file = tmp_path / "q.json"
    file.write_text(json.dumps({"images": images, "queries": queries}))
    entries = {
        "this": {"like": Exemplar(PICTURE, STAR)},
        "that": ["a green dotted star"],
        "other": ["a cyan plain square"],
    }
    asked = (file, BUNDLED / "images")
    told = evaluate_presence(detector, asked, asked, vocabulary=entries, progress=False)
    assert told["value"] == "evidence" and told["tuned_recall"] == 1.0
    with pytest.raises(ValueError, match="not in the vocabulary: 'other'"):
        evaluate_presence(detector, asked, asked, vocabulary={"this": "a", "that": "b"})
    with pytest.raises(ValueError, match="no value 'confidence'"):
        evaluate_presence(detector, asked, asked, value="confidence", vocabulary=entries)


def test_a_score_by_itself_knows_what_its_name_is_told_apart_from(detector):
    (image,) = detector.propose(PICTURE)
    said = {"prompts": ["a cross"]}
    values = [
        Values(detector, Vocabulary.parse({"it": {**said, **more}}), "score")(
            image.regions, ["it"]
        ).max()
        for more in ({}, {"not_like": [Exemplar(PICTURE, CROSS)]})
    ]
    assert values[1] < 0.5 < values[0]


def test_the_commands_take_what_is_shown(detector, tmp_path, capsys, monkeypatch):
    from fgclip_det.apis import inferencer
    from fgclip_det.cli import main

    monkeypatch.setattr(inferencer, "OpenVocabInferencer", lambda *a, **k: detector)
    box = ",".join(map(str, STAR))
    crop = tmp_path / "crop.png"
    from PIL import Image

    x1, y1, x2, y2 = CROSS
    Image.fromarray(np.ascontiguousarray(read_image(PICTURE)[y1:y2, x1:x2])).save(crop)
    shown = ["--like", f"{PICTURE}:{box}", "--name", "dent", "--like", str(crop), "--name", "knob"]
    for command in ("demo", "detect"):
        out = tmp_path / command
        assert main([command, PICTURE, *shown, "--out-dir", str(out)]) == 0
        told = json.loads((out / "preds" / "000006.json").read_text())
        assert told["vocabulary"] == ["dent", "knob"]
        names = {one["name"]: one for one in told["detections"]}
        for name, box_of in (("dent", STAR), ("knob", CROSS)):
            found = torch.tensor([names[name]["box"]])
            assert box_iou(found, torch.tensor([box_of]).float()) > 0.7
            assert names[name]["confidence"] is None
        assert "no confidences" in capsys.readouterr().err
    words = ["--texts", "a cross", "--negatives", "none", "--not-like", str(crop)]
    assert main(["demo", PICTURE, *words, "--out-dir", str(tmp_path / "not")]) == 0
    told = json.loads((tmp_path / "not" / "preds" / "000006.json").read_text())
    assert told["detections"] == []
    assert main(["heatmap", PICTURE, *shown, "--out-dir", str(tmp_path / "maps")]) == 0
    with np.load(tmp_path / "maps" / "heatmaps" / "000006.npz") as kept:
        assert kept["texts"].tolist() == ["dent", "knob"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--name", "dent"], "--name dent has neither"),
        (["--like", "a.png", "--texts", "a cat. a dog"], "--like a.png: of which name is this?"),
        (["--not-like", "a.png"], "--not-like a.png: of which name is this?"),
        (["--like", "nowhere.png"], "nowhere.png"),
        (["--like", f"{PICTURE}:1,2,3"], "picture.jpg:x1,y1,x2,y2"),
        (["--like", f"{PICTURE}:0,0,500,20"], "lies outside of its picture"),
        (["--like", PICTURE, "--vocabulary", "a.safetensors"], "nothing can be shown"),
        (["--like", PICTURE, "--conf-thr", "0.5"], "no confidences: give score_thr"),
        ([], "say what to look for"),
    ],
)
def test_wrong_options_are_told(detector, options, words, tmp_path, capsys, monkeypatch):
    from fgclip_det.apis import inferencer
    from fgclip_det.cli import main

    monkeypatch.setattr(inferencer, "OpenVocabInferencer", lambda *a, **k: detector)
    out = tmp_path / "out"
    assert main(["detect", PICTURE, *options, "--out-dir", str(out)]) == 2
    assert words in capsys.readouterr().err
    assert not out.exists()


def test_names_join_words_and_exemplars():
    from fgclip_det.cli.arguments.shown import with_shown

    said = Vocabulary.parse(
        {"names": {"mug": ["a mug"], "jug": ["a jug"]}, "templates": ["see {}"]}
    )
    star, cross = (f"{PICTURE}:{','.join(map(str, box))}" for box in (STAR, CROSS))
    typed = [("--like", star), ("--not-like", cross), ("--name", "mug")]
    made = with_shown(said, [*typed, ("--like", star), ("--like", PICTURE), ("--name", "x")])
    assert made.names == ("mug", "jug", "x") and made.templates == ("see {}",)
    assert made.prompts == (("a mug",), ("a jug",), ())
    assert [len(made.shown[name].like) for name in ("mug", "x")] == [1, 2]
    assert len(made.shown["mug"].not_like) == 1 and "jug" not in made.shown
