"""The package as it is installed: light import, layers that stand alone, pins, and the wheel."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib import metadata
from itertools import chain
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.version import Version

import fgclip_det

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")

BLOCK_OPENMMLAB = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("mmdet", "mmengine", "mmcv"):
            raise ModuleNotFoundError(f"blocked: {name}", name=name)
sys.meta_path.insert(0, Blocker())
"""


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _project() -> dict:
    tomllib = pytest.importorskip("tomllib", reason="tomllib is in Python 3.11 and later")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _pins(file: str, python: str) -> dict[str, str]:
    """Package -> version that a file of pins gives for one Python version."""
    pins = {}
    environment = {**default_environment(), "python_version": python}
    for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
        if line.split("#")[0].strip():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate(environment):
                (specifier,) = requirement.specifier
                assert specifier.operator == "==", line
                name = re.sub(r"[-_.]+", "-", requirement.name).lower()
                assert name not in pins, f"{name} is pinned twice for Python {python}"
                pins[name] = specifier.version
    return pins


def test_import_is_light() -> None:
    heavy = _python(
        "import sys, fgclip_det; print([m for m in sys.modules if m.split('.')[0] in "
        "('torch', 'mmdet', 'mmengine', 'mmcv', 'transformers', 'numpy', 'cv2')])"
    )
    assert heavy.strip() == "[]"


@pytest.mark.parametrize("package", ["ops", "encoders", "vocabulary"])
def test_lower_layers_import_without_openmmlab(package: str) -> None:
    code = f"{BLOCK_OPENMMLAB}\nimport fgclip_det.{package} as p\nprint(p.__name__)"
    assert _python(code).strip() == f"fgclip_det.{package}"


def test_op_runs_without_openmmlab() -> None:
    code = """
import torch
from fgclip_det.ops import roi_align
out = roi_align(torch.ones(1, 2, 4, 4), [torch.tensor([[0.0, 0.0, 4.0, 4.0]])], 1)
print(tuple(out.shape), float(out.mean()))
"""
    assert _python(BLOCK_OPENMMLAB + code).strip() == "(1, 2, 1, 1) 1.0"


def test_extension_is_built_where_it_can_be() -> None:
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    if not headers.exists() or not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("no C++ compiler or no Python.h: the PyTorch reference is what runs here")
    found = _python("from fgclip_det import ops; print(ops.backend()['cpu'])").strip()
    assert found == "extension", "`make setup` builds it; .venv/build.log says why it did not"


def test_version_is_the_same_everywhere() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{fgclip_det.__version__}"' in text
    assert f"## {fgclip_det.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    try:
        installed = metadata.version("fgclip_det")
    except metadata.PackageNotFoundError:
        pytest.skip("fgclip_det is imported from the checkout, not installed")
    assert installed == fgclip_det.__version__


@pytest.mark.parametrize("python", PYTHONS)
def test_every_dependency_is_pinned_within_its_range(python: str) -> None:
    project = _project()
    pins = _pins("constraints.txt", python)
    for text in chain(project["dependencies"], *project["optional-dependencies"].values()):
        requirement = Requirement(text)
        assert requirement.name in pins, f"{text} has no pin for Python {python}"
        assert requirement.specifier.contains(Version(pins[requirement.name])), text


def test_oldest_transformers_is_the_one_that_is_tested() -> None:
    pins = _pins("constraints-transformers4.txt", "3.11")
    ranges = {r.name: r.specifier for r in map(Requirement, _project()["dependencies"])}
    for name in ("transformers", "tokenizers", "huggingface-hub"):
        assert ranges[name].contains(pins[name])
    assert pins["transformers"].startswith("4.57.")
    assert str(ranges["transformers"]) in (">=4.57,<6", "<6,>=4.57")


def test_license_is_apache() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_console_script_names_a_function() -> None:
    target = _project()["scripts"]["fgclip-det"]
    module, function = target.split(":")
    assert _python(f"import {module} as m; print(callable(m.{function}))").strip() == "True"


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Paths inside a wheel that was built from a copy of the checkout."""
    copy = tmp_path_factory.mktemp("wheel") / "checkout"
    keep_out = shutil.ignore_patterns(
        ".git", ".venv*", ".deps", "build", "dist", "data", "work_dirs", "outputs", "*.so",
        "*.egg-info", "__pycache__", ".mim", ".*_cache",
    )  # fmt: skip
    # Only the top-level data/ is left out: vocabulary/data holds the class lists.
    shutil.copytree(
        ROOT,
        copy,
        ignore=lambda folder, names: (
            keep_out(folder, names) - ({"data"} if Path(folder) != ROOT else set())
        ),
    )
    out = copy.parent / "dist"
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*command, "-w", str(out), "."], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.slow
def test_wheel_holds_the_data(wheel_names: set[str]) -> None:
    expected = {"fgclip_det/__init__.py", "fgclip_det/cli/__init__.py"}
    for folder in ("fgclip_det/assets", "fgclip_det/vocabulary/data"):
        expected |= {p.relative_to(ROOT).as_posix() for p in (ROOT / folder).rglob("*.*")}
    for folder in ("configs", "tools"):
        files = (p for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".sh"))
        expected |= {f"fgclip_det/.mim/{p.relative_to(ROOT).as_posix()}" for p in files}
    missing = {name for name in expected - wheel_names if "__pycache__" not in name}
    assert not missing
    assert any(name.endswith("/licenses/LICENSE") for name in wheel_names)


@pytest.mark.slow
def test_wheel_holds_nothing_else(wheel_names: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"fgclip_det"}
    assert not [name for name in wheel_names if "__pycache__" in name or "/tests/" in name]
