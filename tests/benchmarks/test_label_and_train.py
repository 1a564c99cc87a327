"""The benchmark draws what it says, goes on where it was cut off, and tells what it found."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
from pycocotools.coco import COCO

SMALL = ["--seeds", "0,1", "--num-train", "6", "--num-test", "3", "--epochs", "1"]


@pytest.fixture
def done(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What would have been run, in order."""
    calls: list[str] = []

    def label(folder: Path) -> dict:
        calls.append(f"label {folder.name}")
        return {"labels": 7, "wall": 1.0, "cpu": 1.0}

    def train(folder: Path, source: str, seed: int, epochs: int) -> dict:
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(f"{source} {seed}")
        return {"AP50": {"truth": 80.0, "labels": 76.0}[source], "wall": 60.0, "cpu": 30.0}

    monkeypatch.setattr(benchmark, "label", label)
    monkeypatch.setattr(benchmark, "train", train)
    return calls


def test_a_run_that_was_cut_off_goes_on(
    benchmark: ModuleType, done: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cpu.json"
    arguments = [*SMALL, "--work-dir", str(tmp_path / "work"), "--out", str(out)]
    with pytest.raises(KeyboardInterrupt):
        benchmark.main(arguments)
    assert done == ["label seed_0", "truth 0", "labels 0", "label seed_1"]
    done.append("cut")
    assert benchmark.main(arguments) == 0
    assert done[5:] == ["truth 1", "labels 1"]
    page = out.with_suffix(".md").read_text(encoding="utf-8")
    assert "reaches 0.950 of the AP50" in page and "in 4 minutes (2 of CPU time" in page
    assert len(json.loads(out.read_text(encoding="utf-8"))["cases"]) == 2
    with pytest.raises(ValueError, match="other settings: remove"):
        benchmark.main([*arguments, "--epochs", "2"])


def test_pictures_hold_the_names_and_others(benchmark: ModuleType, tmp_path: Path) -> None:
    benchmark.make_pictures(tmp_path / "train", 40, [0, 1])
    coco = COCO(str(tmp_path / "train.json"))
    assert len(coco.cats) == 12 and len(coco.imgs) == 40
    assert 40 < len(coco.anns) < 120
    assert len({one["category_id"] for one in coco.anns.values()}) == 12
    assert all((tmp_path / "train" / one["file_name"]).is_file() for one in coco.imgs.values())


def test_a_student_that_learned_nothing_misses_the_target(benchmark: ModuleType) -> None:
    assert benchmark.ratio({"truth": {"AP50": 0.0}, "labels": {"AP50": 0.0}}) == 0
