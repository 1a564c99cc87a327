"""House rules that ruff does not know: they are read from the text of the repository."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("fgclip_det", "configs", "tools", "demo", "benchmarks", "tests", "docs", ".ci")
SUFFIXES = {".py", ".md", ".sh", ".cpp", ".h", ".cu", ".cuh", ".toml", ".txt", ""}
THIS = Path(__file__).resolve()

PATTERNS = {
    "a path of one machine": re.compile(r"(?<![\w.])/(?:work|root|home|Users|mnt|opt)/\w"),
    "a note to finish later": re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b"),
    "a banner": re.compile(r"^\s*(?:#|//)\s*[-=#*~]{5,}", re.MULTILINE),
    "remote code": re.compile(r"trust_remote_code\s*=\s*True"),
}


def _texts() -> list[Path]:
    found = [path for path in ROOT.iterdir() if path.is_file() and path.suffix in SUFFIXES]
    for folder in FOLDERS:
        found += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    hidden = {"__pycache__", ".mim", "assets"}
    return sorted(
        path
        for path in found
        if path.suffix in SUFFIXES
        and path.resolve() != THIS
        and not hidden & {*path.parts}
        and path.name not in ("LICENSE", ".DS_Store")
    )


def _python_files() -> list[Path]:
    return [path for path in _texts() if path.suffix == ".py"]


@pytest.mark.parametrize("what", PATTERNS)
def test_text_is_free_of(what: str) -> None:
    wrong = []
    for path in _texts():
        text = path.read_text(encoding="utf-8")
        for match in PATTERNS[what].finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            wrong.append(f"{path.relative_to(ROOT)}:{line}: {match.group().strip()}")
    assert not wrong, f"{what}:\n" + "\n".join(wrong)


def test_torch_load_never_unpickles_code() -> None:
    wrong = []
    for path in _python_files():
        if path.is_relative_to(ROOT / "tests"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) != "torch.load":
                continue
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if given.get("weights_only") != "True":
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not wrong, f"torch.load without weights_only=True: {wrong}"


def test_public_classes_and_functions_have_docstrings() -> None:
    wrong = []
    for path in _python_files():
        if not path.is_relative_to(ROOT / "fgclip_det"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if not ast.get_docstring(tree):
            wrong.append(f"{path.relative_to(ROOT)}: the module")
        for node in tree.body:
            is_definition = isinstance(node, ast.FunctionDef | ast.ClassDef)
            if is_definition and not node.name.startswith("_") and not ast.get_docstring(node):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not wrong, "no docstring:\n" + "\n".join(wrong)


@pytest.mark.parametrize("command", (["check"], ["format", "--check"]), ids=["check", "format"])
def test_ruff(command: list[str]) -> None:
    pytest.importorskip("ruff", reason="ruff is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_ci_calls_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert "make test" in script.read_text(encoding="utf-8")
    assert script.stat().st_mode & 0o111, ".ci/run is not executable"
