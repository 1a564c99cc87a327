"""Models, checkpoints and devices that the inferencer is given, and those that it refuses."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from safetensors.torch import save_file

from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.apis.inferencer import BUNDLED, resolve_device


def test_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    for name in ("gpu", "mps", "meta", "cuda:x", ""):
        with pytest.raises(ValueError, match='use "cpu", "cuda" or "cuda:0"'):
            resolve_device(name)


def test_refuses_cuda_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device(None) == torch.device("cpu")
    for name in ("cuda", "cuda:1"):
        with pytest.raises(ValueError, match=f"'{name}' is asked for.*use cpu"):
            resolve_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"'cuda:1' is asked for.*finds 1 CUDA"):
        resolve_device("cuda:1")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A user's config: the bundled one with paths of its own."""
    cfg = Config.fromfile(BUNDLED / "config.py")
    cfg.model.backbone.encoder = str(BUNDLED / "encoder")
    cfg.model.vocabulary = str(BUNDLED / "vocabulary.json")
    cfg.model.test_cfg.calibration = str(BUNDLED / "calibration.json")
    cfg.model.test_cfg.negatives.vocabularies = [str(BUNDLED / "vocabulary.json")]
    cfg.model.test_cfg.negatives.attributes = str(BUNDLED / "attributes.json")
    cfg.dump(tmp_path / "config.py")
    return tmp_path / "config.py"


def _refusal(*arguments) -> str:
    with pytest.raises(ValueError) as error:
        OpenVocabInferencer(*arguments, device="cpu")
    return str(error.value)


def test_own_config_gives_what_the_bundled_gives(
    calibrated_detector: OpenVocabInferencer, config: Path, tmp_path: Path
) -> None:
    state = torch.load(BUNDLED / "detector.pth", weights_only=True)["state_dict"]
    save_file(state, tmp_path / "w.safetensors")
    picture = sorted((BUNDLED / "images").glob("*.png"))[0]
    expected = calibrated_detector(picture)[0]
    own = OpenVocabInferencer(config, tmp_path / "w.safetensors", BUNDLED / "encoder", "cpu")
    assert len(expected) and expected.confidences is not None
    assert own(picture)[0].to_dict() == expected.to_dict()


def test_files_lie_beside_the_config(
    calibrated_detector: OpenVocabInferencer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the working directory is."""
    names = ("config.py", "vocabulary.json", "attributes.json", "calibration.json")
    for name in names:
        shutil.copy(BUNDLED / name, tmp_path / name)
    cfg = Config.fromfile(tmp_path / "config.py")
    cfg.model.vocabulary = str(BUNDLED / "vocabulary.json")
    cfg.model.test_cfg.negatives.vocabularies = ["vocabulary.json", "coco"]
    cfg.dump(tmp_path / "config.py")
    monkeypatch.chdir(tmp_path.parent)
    files = (tmp_path / "config.py", BUNDLED / "detector.pth", BUNDLED / "encoder", "cpu")
    own = OpenVocabInferencer(*files, calibration=None)
    assert len(own.competition.bank) == 192 + 80
    assert own.competition.attributes.hash == calibrated_detector.competition.attributes.hash
    # What competes is part of what a calibration was made for.
    with pytest.raises(ValueError, match="the competition's bank"):
        OpenVocabInferencer(*files)
    (tmp_path / "calibration.json").unlink()
    with pytest.raises(ValueError, match=str(tmp_path / "calibration.json")):
        OpenVocabInferencer(*files)


def test_refuses_half_a_model(config: Path) -> None:
    weights = BUNDLED / "detector.pth"
    assert "give its config file too" in _refusal(None, weights)
    assert "give weights too" in _refusal(config)
    assert "check the path" in _refusal("none.py", weights)
    assert "does not exist" in _refusal(config, "none.pth")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model = (", "cannot be read"),
        ("raise RuntimeError('no')", "cannot be read"),
        ("model = dict(type='FasterRCNN')", "type 'FasterRCNN'"),
        ("model = 'detector'", "type 'detector'"),
        ("x = 1", "type None"),
        ("model = dict(type='OpenVocabTwoStageDetector')", "cannot be built"),
    ],
)
def test_refuses_configs_of_something_else(config: Path, text: str, words: str) -> None:
    config.write_text(text)
    assert words in _refusal(config, BUNDLED / "detector.pth")


def test_refuses_a_config_without_pipeline(config: Path) -> None:
    config.write_text(config.read_text().replace("test_dataloader", "other"))
    assert "lacks test_dataloader" in _refusal(config, BUNDLED / "detector.pth")


def test_refuses_a_checkpoint_of_the_wrong_kind(config: Path, tmp_path: Path) -> None:
    encoder = BUNDLED / "encoder" / "model.safetensors"
    text = _refusal(config, encoder)
    assert str(encoder) in text and "the one trained with it" in text
    torch.save({"epoch": 3}, tmp_path / "log.pth")
    assert "wrong kind" in _refusal(config, tmp_path / "log.pth")
    (tmp_path / "text.pth").write_text("<html>")
    assert "text.pth" in _refusal(config, tmp_path / "text.pth")
    assert "config.json" in _refusal(config, BUNDLED / "detector.pth", tmp_path)


def test_refuses_weights_of_another_encoder(config: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(BUNDLED / "detector.pth", weights_only=True)
    checkpoint["state_dict"]["encoder_fingerprint"] += 1
    torch.save(checkpoint, tmp_path / "w.pth")
    assert "were trained on the encoder" in _refusal(config, tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_refuses_truncated_weights(config: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    state = torch.load(BUNDLED / "detector.pth", weights_only=True)["state_dict"]
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    path.write_bytes(path.read_bytes()[:-5000])
    text = _refusal(config, path)
    assert str(path) in text and "truncated" in text


def test_refuses_a_truncated_encoder(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    folder.mkdir()
    for file in (BUNDLED / "encoder").iterdir():
        kept = -5000 if file.suffix == ".safetensors" else None
        (folder / file.name).write_bytes(file.read_bytes()[:kept])
    text = _refusal(config, BUNDLED / "detector.pth", folder)
    assert str(folder) in text and "truncated" in text


def test_names_every_missing_and_unexpected_key(config: Path, tmp_path: Path) -> None:
    state = torch.load(BUNDLED / "detector.pth", weights_only=True)["state_dict"]
    missing = [key for key in state if key.endswith("weight")][:2]
    for key in missing:
        state[f"other.{key}"] = state.pop(key)
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    text = _refusal(config, tmp_path / "w.pth")
    for key in missing:
        assert f"missing {key}" in text
        assert f"unexpected other.{key}" in text


class _Payload:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return os.mkdir, (str(self.victim),)


@pytest.mark.parametrize("is_zip", [True, False])
def test_never_runs_code_of_a_checkpoint(config: Path, tmp_path: Path, is_zip: bool) -> None:
    victim, path = tmp_path / "executed", tmp_path / "w.pth"
    payload = {"state_dict": {"weight": torch.zeros(1)}, "meta": _Payload(victim)}
    if is_zip:
        torch.save(payload, path)
    else:
        path.write_bytes(pickle.dumps({"state_dict": _Payload(victim)}, protocol=2))
    text = _refusal(config, path)
    assert str(path) in text and "refused" in text
    assert not victim.exists()
