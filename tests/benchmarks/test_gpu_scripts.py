"""The scripts for a GPU machine say what is missing before they write anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("gpu_check.sh", "gpu_detector.sh", "gpu_nccl.sh")
BLOCKED = ("mmengine", "mmdet", "mmcv", "pycocotools", "shapely", "terminaltables", "addict")
HIDE = """
import sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] not in {blocked}:
            return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
"""


def run(*arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **settings},
    )


@pytest.fixture
def bare(tmp_path: Path) -> str:
    """A PYTHONPATH on which OpenMMLab's packages are missing."""
    (tmp_path / "sitecustomize.py").write_text(HIDE.format(blocked=BLOCKED))
    return str(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS)
def test_usage(script: str) -> None:
    done = run(f"benchmarks/{script}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: usage: ")


def test_an_unknown_part(tmp_path: Path) -> None:
    done = run("benchmarks/gpu_check.sh", tmp_path / "results", "everything", sys.executable)
    assert done.returncode == 2 and "there is no part 'everything'" in done.stderr
    assert not (tmp_path / "results").exists()


def test_no_gpu(tmp_path: Path) -> None:
    done = run(
        *("benchmarks/gpu_check.sh", tmp_path / "results", "values", sys.executable),
        CUDA_VISIBLE_DEVICES="",
    )
    assert done.returncode == 2 and "sees no CUDA GPU" in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("script", SCRIPTS[1:])
def test_no_wheels(script: str, tmp_path: Path, bare: str) -> None:
    arguments = (f"benchmarks/{script}", tmp_path / "results", tmp_path / "wheels", sys.executable)
    done = run(*arguments, REHEARSE="1", PYTHONPATH=bare)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "mmengine, mmdet or pycocotools is missing" in done.stderr
    assert "pip download" in done.stderr


@pytest.mark.slow
def test_a_rehearsal_without_openmmlabs_packages(tmp_path: Path, bare: str) -> None:
    results = tmp_path / "results"
    for part in ("values", "speed-a"):
        arguments = ("benchmarks/gpu_check.sh", results, part, sys.executable)
        done = run(*arguments, REHEARSE="1", PYTHONPATH=bare)
        assert done.returncode == 0, done.stdout + done.stderr
    summary = (results / "summary.txt").read_text(encoding="utf-8")
    assert "values: exit 0" in summary and "speed-a: exit 0" in summary
    assert "REHEARSAL" in summary
    assert (results / "roi_align_cpu_a.json").is_file()
