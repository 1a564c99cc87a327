"""One answer whichever way one asks: Python, command, ``tools/test.py``; and for any vocabulary."""

from __future__ import annotations

import json
import pickle
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from torch import Tensor

from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.cli import main
from fgclip_det.datasets.shapes import generator as shapes
from fgclip_det.models import OpenVocabTwoStageDetector
from fgclip_det.vocabulary import Vocabulary

ROOT = Path(__file__).resolve().parents[1]
VOCABULARY = BUNDLED / "vocabulary.json"
Answer = tuple[list[str], Tensor, Tensor]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    shapes.generate(root, {"train": 8, "val": 5}, seed=3)
    return root


@pytest.fixture(scope="module")
def config(data: Path) -> Config:
    """The bundled detector on a few pictures, as configs/shapes tests it."""
    cfg = Config.fromfile(ROOT / "configs" / "shapes" / "ovdet_tiny.py")
    cfg.model = Config.fromfile(BUNDLED / "config.py").model
    cfg.model.backbone.encoder = str(BUNDLED / "encoder")
    cfg.model.vocabulary = str(VOCABULARY)
    for name, split in (("train", "train"), ("val", "val"), ("test", "val")):
        loader = cfg[f"{name}_dataloader"]
        loader.update(batch_size=1, num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=f"{data}/", vocabulary=str(VOCABULARY))
        if name != "train":
            cfg[f"{name}_evaluator"].ann_file = str(data / "annotations" / f"{split}.json")
    cfg.work_dir = str(data / "work_dir")
    return cfg


def _ask_python(pictures: Path) -> dict[str, Answer]:
    detect = OpenVocabInferencer(device="cpu", calibration=None)
    detect.set_negatives(None)
    answers = detect(pictures, VOCABULARY, score_thr=0.0, progress=False)
    return {Path(a.image_path).name: (a.names, a.boxes, a.scores) for a in answers}


def _ask_command(pictures: Path, out: Path) -> dict[str, Answer]:
    options = ("--vocabulary", VOCABULARY, "--score-thr", 0, "--device", "cpu", "--no-save-vis")
    options += ("--negatives", "none", "--calibration", "none", "--no-one-name")
    assert main(["demo", *map(str, (pictures, *options, "--out-dir", out))]) == 0
    answers = {}
    for file in (out / "preds").iterdir():
        values = json.loads(file.read_text("utf-8"))
        found = values["detections"]
        answers[Path(values["image"]).name] = (
            [d["name"] for d in found],
            torch.tensor([d["box"] for d in found]),
            torch.tensor([d["score"] for d in found]),
        )
    return answers


def _ask_test_tool(
    config: Config, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Answer]:
    config.dump(folder / "config.py")
    command = [folder / "config.py", BUNDLED / "detector.pth", "--out", folder / "found.pkl"]
    monkeypatch.setattr(sys, "argv", ["test.py", *map(str, command)])
    try:
        runpy.run_path(str(ROOT / "tools" / "test.py"), run_name="__main__")
    except SystemExit as stopped:
        assert not stopped.code
    names = Vocabulary.parse(VOCABULARY).names
    answers = {}
    for sample in pickle.loads((folder / "found.pkl").read_bytes()):
        found = sample["pred_instances"]
        found_names = [names[label] for label in found["labels"].tolist()]
        answers[Path(sample["img_path"]).name] = (found_names, found["bboxes"], found["scores"])
    return answers


def _assert_equal(one: dict[str, Answer], other: dict[str, Answer], tolerance: float) -> None:
    assert one.keys() == other.keys()
    for picture, (names, boxes, scores) in one.items():
        assert names == other[picture][0]
        torch.testing.assert_close(boxes, other[picture][1], atol=tolerance, rtol=0)
        torch.testing.assert_close(scores, other[picture][2], atol=tolerance, rtol=0)


def test_python_command_and_test_tool_agree(
    config: Config, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = _ask_python(data / "val")
    assert len(python) == 5
    assert sum(len(names) for names, _, _ in python.values()) > 5
    # Files have boxes of 0.01 pixels and scores of four digits.
    _assert_equal(python, _ask_command(data / "val", tmp_path / "out"), 0.00501)
    _assert_equal(python, _ask_test_tool(config, tmp_path, monkeypatch), 1e-6)


@pytest.fixture(scope="module")
def tuned(config: Config) -> OpenVocabTwoStageDetector:
    """The bundled detector after a few steps on base classes."""
    torch.manual_seed(0)
    init_default_scope("mmdet")
    model = MODELS.build(config.model)
    state = torch.load(BUNDLED / "detector.pth", weights_only=True)["state_dict"]
    model.load_state_dict(state)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    before = model.roi_head.bbox_head.fc_reg.weight.detach().clone()
    model.train()
    for _ in range(3):
        batch = pseudo_collate([dataset[i] for i in range(4)])
        losses = model(**model.data_preprocessor(batch, True), mode="loss")
        loss, _ = model.parse_losses(losses)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert not torch.equal(before, model.roi_head.bbox_head.fc_reg.weight)
    return model.eval()


def _detect(model: OpenVocabTwoStageDetector, config: Config, texts: Vocabulary) -> Answer:
    """Names, boxes and scores of a picture, by a model that is in memory."""
    dataset = DATASETS.build(config.test_dataloader.dataset)
    model.set_vocabulary(texts)
    with torch.no_grad():
        found = model.test_step(pseudo_collate([dataset[0]]))[0].pred_instances
    return [texts.names[label] for label in found.labels.tolist()], found.bboxes, found.scores


def test_a_tuned_detector_answers_new_words(
    tuned: OpenVocabTwoStageDetector, config: Config, mmdet_scope: None
) -> None:
    shapes_words = Vocabulary.parse(VOCABULARY)
    names, boxes, scores = _detect(tuned, config, shapes_words)
    assert names
    # Only the text of a name counts: under made-up names the same texts find the same boxes.
    alias = {name: f"gizmo {i}" for i, name in enumerate(shapes_words.names)}
    renamed = Vocabulary(
        tuple(alias.values()),
        shapes_words.prompts,
        shapes_words.templates,
        {g: [alias[n] for n in members] for g, members in shapes_words.groups.items()},
    )
    found = _detect(tuned, config, renamed)
    assert found[0] == [alias[name] for name in names]
    assert torch.equal(found[1], boxes) and torch.equal(found[2], scores)

    # Words that no training saw have their own scores, and leave no trace.
    found = _detect(tuned, config, Vocabulary.parse("a zebra. a traffic light, green"))
    assert set(found[0]) <= {"a zebra", "a traffic light, green"}
    assert torch.isfinite(found[2]).all()
    again = _detect(tuned, config, shapes_words)
    assert again[0] == names
    assert torch.equal(again[1], boxes) and torch.equal(again[2], scores)


def test_boxes_do_not_depend_on_words(
    tuned: OpenVocabTwoStageDetector, config: Config, mmdet_scope: None
) -> None:
    batch = pseudo_collate([DATASETS.build(config.test_dataloader.dataset)[0]])
    batch = tuned.data_preprocessor(batch, False)
    proposed = []
    for texts in ("a red plain circle", "a zebra. a lion"):
        tuned.set_vocabulary(texts)
        proposed.append(tuned.propose(batch["inputs"], batch["data_samples"])[0])
    assert torch.equal(proposed[0].boxes, proposed[1].boxes)
    assert torch.equal(proposed[0].region_embeddings, proposed[1].region_embeddings)


def test_tuning_leaves_the_encoder_and_the_training_classes(
    tuned: OpenVocabTwoStageDetector, config: Config
) -> None:
    tuned.set_vocabulary("a zebra")
    words = Vocabulary.parse(VOCABULARY)
    assert tuned.training_vocabulary.base_classes == words.base_classes
    fresh = type(tuned.encoder).from_pretrained(BUNDLED / "encoder")
    assert tuned.encoder.fingerprint == fresh.fingerprint


def test_pictures_of_several_sizes_do_not_change_each_other(tuned: OpenVocabTwoStageDetector):
    generator = torch.Generator().manual_seed(0)
    sizes = [(128, 128), (96, 128), (128, 80), (96, 128)]
    samples = []
    for number, size in enumerate(sizes):
        meta = {"img_id": number, "img_shape": size, "ori_shape": size, "scale_factor": (1.0, 1.0)}
        pixels = torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
        samples.append({"inputs": pixels, "data_samples": DetDataSample(metainfo=meta)})
    together = tuned.test_step(pseudo_collate(samples))
    for one, sample in zip(together, samples, strict=True):
        (alone,) = tuned.test_step(pseudo_collate([sample]))
        found, expected = one.pred_instances, alone.pred_instances
        assert torch.equal(found.labels, expected.labels)
        torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=0)
        # In pixels: float32 rounding of another batch size came to 5e-5 of them.
        torch.testing.assert_close(found.bboxes, expected.bboxes, atol=1e-4, rtol=0)
