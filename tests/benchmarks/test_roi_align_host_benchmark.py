"""The benchmark of host time runs, writes what it says, and refuses what it cannot do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def host(import_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    """The benchmark as a module."""
    return import_benchmark("roi_align_host")


def test_quick_run_writes_json_and_page(host: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "new" / "host.json"
    assert host.main(["--quick", "--out", str(out)]) == 0
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["settings"]["threads"] == 1
    page = out.with_suffix(".md").read_text(encoding="utf-8")
    for name, case in result["cases"].items():
        assert f"| {name} |" in page
        assert set(case["seconds"]) == {"ours", "torchvision"}
        assert len(case["seconds"]["ours"]) == 2


@pytest.mark.parametrize("flag", ["--rounds=0", "--out=page.md"])
def test_refuses_what_it_cannot_do(
    host: ModuleType, flag: str, capsys: pytest.CaptureFixture
) -> None:
    assert host.main(["--quick", flag]) == 2
    assert capsys.readouterr().err.startswith("error: ")
