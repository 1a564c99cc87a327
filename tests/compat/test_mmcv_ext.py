"""Installation of the stand-in, and its answer to operators that it does not have."""

import importlib
import importlib.util
import pkgutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from fgclip_det import compat
from fgclip_det.compat import mmcv_ext

pytest.importorskip("mmcv")
ROOT = Path(__file__).parents[2]
needs_stand_in = pytest.mark.skipif(
    not mmcv_ext.is_installed(), reason="this environment has the compiled mmcv"
)


@needs_stand_in
def test_import_machinery_sees_an_ordinary_module() -> None:
    module = importlib.import_module("mmcv._ext")
    spec = importlib.util.find_spec("mmcv._ext")
    assert spec is module.__spec__ and spec.name == "mmcv._ext" and spec.loader is not None
    assert module.__loader__ is spec.loader
    if hasattr(pkgutil, "find_loader"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            assert pkgutil.find_loader("mmcv._ext") is spec.loader


@needs_stand_in
def test_setup_again_changes_nothing() -> None:
    before = sys.modules["mmcv._ext"]
    compat.setup()
    assert sys.modules["mmcv._ext"] is before


@needs_stand_in
def test_other_ops_name_themselves_and_the_mend() -> None:
    from mmcv.ops import box_iou_rotated

    with pytest.raises(NotImplementedError, match=r"box_iou_rotated.*mmcv==2\.1\.0"):
        box_iou_rotated(torch.rand(2, 5), torch.rand(2, 5))
    with pytest.raises(AttributeError):
        _ = sys.modules["mmcv._ext"].__nothing__


def run_with_fake_mmcv(folder: Path, code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{folder}:{ROOT}", "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_a_real_extension_is_never_replaced(tmp_path: Path) -> None:
    package = tmp_path / "mmcv"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "_ext.py").write_text("REAL = True\n")
    code = (
        "from fgclip_det.compat import mmcv_ext; assert not mmcv_ext.install();"
        "assert mmcv_ext.has_compiled_ops();"
        "import mmcv._ext; assert mmcv._ext.REAL; assert not mmcv_ext.install(); print('real')"
    )
    assert run_with_fake_mmcv(tmp_path, code) == "real"
