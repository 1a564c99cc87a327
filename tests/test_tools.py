"""Tools stand on what packages export, and start and end alike."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fgclip_det"
TOOLS = sorted((ROOT / "tools").glob("*.py"))
# It starts the others, which say what they lack.
NEEDS_TORCH_ALONE = ROOT / "tools" / "launch.py"


def _public_names(module: str) -> set[str]:
    """`__all__` of a package, or what a file right in `fgclip_det` defines; of others none."""
    path = ROOT.joinpath(*module.split("."))
    if (path / "__init__.py").is_file():
        tree = ast.parse((path / "__init__.py").read_text(encoding="utf-8"))
        lists = [
            node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
        ]
        return {name for one in lists for name in ast.literal_eval(one)}
    if path.parent != PACKAGE or not path.with_suffix(".py").is_file():
        return set()
    tree = ast.parse(path.with_suffix(".py").read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    names |= {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id.isupper()
    }
    return {name for name in names if not name.startswith("_")}


def private_imports(source: str) -> list[str]:
    """What a script imports of the package that is no public name, one line each."""
    wrong = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("fgclip_det.")]
            wrong += [f"line {node.lineno}: import {name}" for name in names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fgclip_det"):
            public = _public_names(node.module)
            wrong += [
                f"line {node.lineno}: {node.module} has no public {alias.name}"
                for alias in node.names
                if alias.name not in public
            ]
    return wrong


@pytest.mark.parametrize("path", TOOLS, ids=lambda path: path.name)
def test_tools_import_what_packages_export(path: Path) -> None:
    wrong = private_imports(path.read_text(encoding="utf-8"))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", TOOLS, ids=lambda path: path.name)
def test_tools_start_and_end_alike(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert "sys.path.append(str(Path(__file__).resolve().parents[1]))" in source
    assert "sys.path.insert" not in source
    main = next(node for node in ast.parse(source).body if getattr(node, "name", "") == "main")
    assert [argument.arg for argument in main.args.args] == ["argv"]
    assert "run_tool(" in ast.unparse(main)
    shares_work = "linked_processes" in source or "joined_processes" in source
    end = "leave" if shares_work else "sys.exit"
    assert source.endswith(f'if __name__ == "__main__":\n    {end}(main())\n')


def test_a_missing_package_is_one_line() -> None:
    program = (
        "import os, runpy, sys\n"
        "import torch, transformers\n"
        "sys.modules.update(mmcv=None, mmdet=None, mmengine=None)\n"
        "for path in sys.argv[1:]:\n"
        "    if not os.fork():\n"
        "        runpy.run_path(path, run_name='imported')\n"
        "        os._exit(0)\n"
        "    assert os.waitstatus_to_exitcode(os.wait()[1]) == 2, path\n"
    )
    tools = [path for path in TOOLS if path != NEEDS_TORCH_ALONE]
    command = [sys.executable, "-c", program, *map(str, tools)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert len(said) == len(tools)
    advice = "pip install 'fgclip_det[openmmlab]'"
    assert all(line.startswith("error: mm") and advice in line for line in said)


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("from fgclip_det.engine import read_config", 0),
        ("from fgclip_det.exit_codes import run_tool", 0),
        ("from fgclip_det.datasets.shapes import generate", 0),
        ("import numpy", 0),
        ("from fgclip_det.engine.command_line import read_config", 1),
        ("from fgclip_det.engine import command_line", 1),
        ("from fgclip_det.exit_codes import _message", 1),
        ("import fgclip_det.engine.command_line", 1),
    ],
)
def test_the_check_finds_private_imports(source: str, count: int) -> None:
    assert len(private_imports(source)) == count
