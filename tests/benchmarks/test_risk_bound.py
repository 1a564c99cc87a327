"""The proof of the bound: a few pictures of the bundled model, and laws that keep or break it."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.calibration import Calibration, Goal


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of the bundled model, by hand."""
    path = tmp_path_factory.mktemp("calibration") / "calibration.json"
    detector = OpenVocabInferencer(device="cpu", calibration=None)
    encoder = detector.model.encoder.fingerprint
    settings = detector.competition.settings
    features = {"detector": 1.3, "objectness": 0.5}
    Calibration(
        detector.model.evidence_hash,
        encoder,
        settings,
        tuple(features),
        tuple(features.values()),
        -1.3,
    ).save(path)
    return path


@pytest.mark.slow
def test_few_pictures_are_looked_into_once(
    benchmark: ModuleType,
    calibration: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(benchmark, "SHARD", 20)
    sizes = ["--calibrations", "3", "--pictures", "20", "--judged", "30", "--risks", "0.3"]
    work, out = tmp_path / "work", tmp_path / "r.json"
    told = ["--work-dir", str(work), "--calibration", str(calibration), *sizes, "--quiet"]
    assert benchmark.main([*told, "--out", str(out)]) == 0
    first = capsys.readouterr().out
    assert first.count("\n| pictures | 0.3 |") == first.count("\n| alarms | 0.9 |") == 3
    shards = sorted(work.glob("*.npy"))
    assert [np.load(path).shape for path in shards] == [(20, 4, 3)] * 4 + [(10, 4, 3)]
    assert len(json.loads(out.read_text())["cases"]) == 6
    before = [path.stat().st_mtime_ns for path in shards]
    shards[2].unlink()
    assert benchmark.main(told) == 0
    assert capsys.readouterr().out == first
    after = [path.stat().st_mtime_ns for path in shards]
    assert [a == b for a, b in zip(after, before, strict=True)] == [True, True, False, True, True]
    with pytest.raises(SystemExit, match="other settings"):
        benchmark.main([*told, "--seed", "3"])


def _alarms(rng: np.random.Generator, count: int, share: float) -> np.ndarray:
    """(count, R, CLIP): of each role one alarm in some pictures, its figure uniform."""
    made = np.zeros((count, 4, 3), np.float32)
    made[..., 0] = rng.random((count, 4)) * (rng.random((count, 4)) < share)
    return made


def test_bounds_hold_where_pictures_are_of_one_law_and_break_where_not(
    benchmark: ModuleType,
) -> None:
    rng = np.random.default_rng(0)
    fresh = _alarms(rng, 60 * 100, 0.5).reshape(60, 100, 4, 3)
    goal = Goal(0.2, 0.1)
    same = benchmark.judge(goal, fresh, _alarms(rng, 5000, 0.5))
    assert not benchmark.too_often(same)
    assert all(0.05 < value < 0.2 for value in same["median_risk"].values())
    other = benchmark.judge(goal, fresh, _alarms(rng, 5000, 0.95))
    assert benchmark.too_often(other) and other["broken_together"] == 60
    few = benchmark.judge(goal, fresh[:, :15], _alarms(rng, 100, 0.5))
    assert few["broken_together"] is None


def test_allowed_violations(benchmark: ModuleType) -> None:
    assert [benchmark.allowed(200, delta) for delta in (0.05, 0.1, 0.2)] == [18, 30, 54]
    assert benchmark.allowed(5, 0.0001) == 0


def test_risk_counts_up_to_the_clip(benchmark: ModuleType) -> None:
    alarms = np.array([[0.9, 0.5, 0.4], [0.5, 0.0, 0.0], [0.0, 0.0, 0.0]], np.float32)
    assert benchmark.risk_of(0.5, alarms, Goal(0.1, 0.1)) == pytest.approx(2 / 3)
    assert benchmark.risk_of(0.4, alarms, Goal(0.1, 0.1, "alarms", 3)) == pytest.approx(4 / 3)
    assert benchmark.risk_of(0.4, alarms, Goal(0.1, 0.1, "alarms", 2)) == pytest.approx(1)
