"""Nothing that a user, a broken disk or a stranger's file does ends in a traceback or half a file.

``python tests/hostile/run.py -k PART --verbose`` runs some of the cases and tells each.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.hostile.verdict import torn

ROOT = Path(__file__).resolve().parents[2]
RUN = Path(__file__).with_name("run.py")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, limits as Linux does")


def assert_passed(options: list[str], least: int) -> None:
    """In a process of its own: pytest has threads, which a fork would not take along."""
    command = [sys.executable, str(RUN), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    counts = re.search(r"^(\d+) cases, (\d+) failed", done.stdout, re.MULTILINE)
    assert counts, done.stdout[-2000:] + done.stderr[-3000:]
    assert done.returncode == 0 and int(counts[2]) == 0, done.stdout
    assert int(counts[1]) >= least


@pytest.mark.slow
def test_hostile_inputs_end_in_a_line_and_an_exit_code() -> None:
    """A sixth of the cases: all take half an hour; rows that lie side by side are alike."""
    assert_passed(["--every", "6"], least=400)


@pytest.mark.slow
def test_no_space_from_any_write_on() -> None:
    assert_passed(["-k", "space/"], least=50)


@pytest.mark.slow
def test_two_runs_at_once_into_one_folder(tmp_path: Path) -> None:
    """Pictures of both, with equal names in three folders and a colour of their own each."""
    colors = {}
    for index in range(12):
        path = tmp_path / "abc"[index % 3] / f"{index // 3}.png"
        path.parent.mkdir(exist_ok=True)
        colors[str(path.relative_to(tmp_path))] = color = (20 * index, 255 - 20 * index, 99)
        Image.new("RGB", (50, 40), color).save(path)
    entry = "import sys; from fgclip_det.cli import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", entry, "demo", *folders, "--out-dir", "out"],
            cwd=tmp_path, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for folders in (("a", "b"), ("b", "c"))
    ]  # fmt: skip
    for run in running:
        said = run.communicate()
        assert run.returncode == 0, said
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix not in (".json", ".png") or torn(path)]
    found = {}
    for path in (tmp_path / "out" / "preds").iterdir():
        values = json.loads(path.read_text())
        name = str((tmp_path / values["image"]).relative_to(tmp_path))
        with Image.open(tmp_path / "out" / "vis" / f"{path.stem}.png") as image:
            _, found[name] = max(image.convert("RGB").getcolors(1 << 24))
    assert found == colors
