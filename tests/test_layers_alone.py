"""The packages at the bottom pass their tests where torch and MMDetection are not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BLOCKED = ("torch", "torchvision", "transformers", "mmengine", "mmcv", "mmdet")
_RUN = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[2:]]))
"""


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", _RUN, ",".join(BLOCKED), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("package", ["io", "fg_ovd", "calibration"])
def test_passes_without_torch_and_mmdetection(repo_root: Path, package: str) -> None:
    ran = _run(repo_root, f"tests/{package}")
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]


def test_the_blocked_packages_are_missing_there(tmp_path: Path) -> None:
    tests = [f"def test_{name}():\n    import {name}\n" for name in BLOCKED]
    (tmp_path / "test_imports.py").write_text("\n".join(tests))
    ran = _run(tmp_path, "test_imports.py")
    assert f"{len(BLOCKED)} failed" in ran.stdout
    assert all(f"No module named '{name}'" in ran.stdout for name in BLOCKED)
