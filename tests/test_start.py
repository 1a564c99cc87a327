"""What the first picture does not need is not imported for it, and imports are not searched."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fgclip_det import cli

# The dearest packages that were once imported on the way to the first picture.
NEEDLESS = (
    "matplotlib",
    "scipy.optimize",
    "scipy.sparse",
    "sympy",
    "torch._dynamo",
    "torch.distributed.fsdp",
    "torch.distributed.optim",
    "torchvision",
    "transformers.modeling_utils",
)
DEMO = """
import sys
from fgclip_det.cli import main
code = main(["demo", "--out-dir", sys.argv[1]])
print("imported:", *[name for name in sys.argv[2:] if name in sys.modules])
sys.exit(code)
"""


@pytest.mark.slow
def test_demo_imports_nothing_dear_beside_torch(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DEMO, str(tmp_path / "out"), *NEEDLESS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "imported:"


@pytest.mark.slow
def test_calibrate_leaves_no_folder_of_a_compiler_that_nobody_asked_for(tmp_path: Path) -> None:
    """As the import of torchvision does in the folder for temporary files."""
    command = [sys.executable, "-c", "import fgclip_det.cli.calibrate"]
    subprocess.run(command, check=True, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("collects", [True, False])
@pytest.mark.parametrize("error", [None, ImportError("no such part")])
def test_imports_are_not_searched_for_garbage(
    monkeypatch: pytest.MonkeyPatch, collects: bool, error: Exception | None
) -> None:
    during = []

    def import_module(name: str) -> str:
        during.append(gc.isenabled())
        if error:
            raise error
        return name

    monkeypatch.setattr(cli.importlib, "import_module", import_module)
    (gc.enable if collects else gc.disable)()
    try:
        if error:
            with pytest.raises(ImportError, match="no such part"):
                cli._import("fgclip_det.cli.nothing")
        else:
            assert cli._import("fgclip_det.cli.nothing") == "fgclip_det.cli.nothing"
        assert during == [False] and gc.isenabled() is collects and gc.get_freeze_count() > 0
    finally:
        gc.enable()
        gc.unfreeze()


def test_what_is_imported_already_freezes_nothing() -> None:
    gc.unfreeze()
    assert cli._import("fgclip_det.cli") is cli and gc.get_freeze_count() == 0
