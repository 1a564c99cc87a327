"""``fgclip-det detect`` with tiny checkpoints under the presets' own ids, from an empty cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image

from fgclip_det.apis.presets import preset_parts
from fgclip_det.cli import main
from tests.hub.conftest import cache, hub  # noqa: F401
from tests.hub.loopback import Hub, repository_of
from tests.tiny_encoders import tiny_fgclip2
from tests.tiny_hub_detectors import write_tiny

ROOT = Path(__file__).resolve().parents[1]
# So many names that some of them win against the built-in ones, whatever the weights.
OPTIONS = ("--texts", "lvis", "--score-thr", "0", "--device", "cpu")


@pytest.fixture
def filled(hub: Hub, tmp_path: Path) -> Hub:  # noqa: F811
    """Serves what the presets "default" and "fast" name."""
    for preset, family in (("default", "owlv2"), ("fast", "d_fine")):
        detector, encoder = preset_parts(preset)
        hub.repositories[detector.name] = repository_of(write_tiny(family, tmp_path / family))
    tiny_fgclip2(speaks=True).save_pretrained(tmp_path / "encoder")
    hub.repositories[encoder.name] = repository_of(tmp_path / "encoder")
    return hub


@pytest.fixture
def street(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A picture, in the working directory."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("street.png")
    return tmp_path / "street.png"


def test_from_an_empty_cache_and_then_without_a_network(
    filled: Hub,
    street: Path,
    cache: Path,  # noqa: F811
    capsys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main(["detect", "street.png", *OPTIONS]) == 0
    printed, said = capsys.readouterr()
    for part in preset_parts("default"):
        commit = filled.repositories[part.name].commit
        (told,) = [line for line in said.splitlines() if f"{part.kind} {part.name}" in line]
        assert f"at {commit}" in told and "licence apache-2.0" in told and str(cache) in told
    assert "detections in 1 picture(s); written to outputs" in printed
    first = Path("outputs/preds/street.json").read_bytes()
    assert len(json.loads(first)["detections"]) > 3
    assert json.loads(Path("outputs/results.jsonl").read_bytes()) == json.loads(first)
    width, height = Image.open("outputs/vis/street.png").size
    assert width * 60 == height * 90

    filled.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    # As on a machine that takes long: --quiet shows no bar.
    monkeypatch.setattr("fgclip_det.vocabulary.text_embeddings._BAR_AFTER", 0.0)
    assert main(["detect", "street.png", *OPTIONS, "--out-dir", "again", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert Path("again/preds/street.json").read_bytes() == first

    assert main(["detect", "street.png", *OPTIONS, "--preset", "fast", "--out-dir", "none"]) == 2
    printed, said = capsys.readouterr()
    assert printed == "" and said.count("\n") == 1
    assert f"fgclip-det models fetch {preset_parts('fast')[0].name}" in said
    assert "`fgclip-det models fetch fast`" in said
    assert filled.requests == [] and not Path("none").exists()

    # What the message names mends it.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert main(["models", "fetch", "fast"]) == 0
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    capsys.readouterr()
    assert main(["detect", "street.png", *OPTIONS, "--preset", "fast", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["model"] == "photos/fast"


@pytest.mark.slow
def test_the_clients_own_settings_are_kept(filled: Hub, street: Path, tmp_path: Path) -> None:
    """A process of its own: HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE are read when it starts."""
    command = [sys.executable, "-m", "fgclip_det.cli", "detect", "street.png", *OPTIONS, "--json"]
    home = tmp_path / "home"
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(home)}
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HUGGINGFACE_HUB_CACHE"):
        settings.pop(name, None)
    settings["HF_ENDPOINT"] = filled.url
    lines = []
    for offline in ("0", "1"):
        settings["HF_HUB_OFFLINE"] = offline
        ended = subprocess.run(command, env=settings, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        assert (str(home / "hub") in ended.stderr) == (offline == "0")
        lines.append(ended.stdout)
        if offline == "0":
            assert filled.requests
            filled.requests.clear()
    assert lines[0] == lines[1] and json.loads(lines[0])["detections"]
    assert filled.requests == []
