"""Imports point down, files and functions stay short: the table of layers, enforced by `ast`.

    L4  cli, tools/, demo/, benchmarks/      public names only; nobody imports them
    L3½ web                              public names only; cli alone imports it
    L3  apis
    L2  models, evaluation, pretrain, datasets, engine   not each other; all may import compat
    L1  vocabulary, encoders, fg_ovd, calibration    no mm*, not each other; fg_ovd: NumPy and
                                             tqdm only; calibration: NumPy only
    L½  hub                              huggingface_hub only
    L0  ops, io, exit_codes                  ops: torch only; io: NumPy and Pillow only;
                                             exit_codes: the standard library only

Imports stand at the top of a file. Only `cli.py` and `apis/` may defer them into functions, and for
one reason: `fgclip-det --help` and `fgclip-det doctor` must answer where mmdet does not import.
"""

from __future__ import annotations

import ast
import graphlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fgclip_det"

LEVELS = {
    "ops": 0,
    "io": 0,
    "exit_codes": 0,
    # Above io, below the encoders, whose checkpoints it finds.
    "hub": 0.5,
    "encoders": 1,
    "vocabulary": 1,
    "fg_ovd": 1,
    "calibration": 1,
    "compat": 2,
    "models": 2,
    "evaluation": 2,
    "pretrain": 2,
    "datasets": 2,
    "engine": 2,
    "apis": 3,
    # Above what it shows, below the command that starts it.
    "web": 3.5,
    "cli": 4,
    "__main__": 4,
}
DEFERRED_IMPORTS_ALLOWED = {"apis", "cli", "__main__"}
_ENCODING = {"torch", "transformers", "tokenizers", "safetensors", "huggingface_hub", "numpy"}
# What the packages below L2 may import beside the standard library.
ALLOWED = {
    "ops": {"torch"},
    "io": {"numpy", "PIL"},
    "exit_codes": set(),
    "hub": {"huggingface_hub"},
    "encoders": {*_ENCODING, "PIL", "tqdm"},
    "vocabulary": {*_ENCODING, "tqdm"},
    "fg_ovd": {"numpy", "tqdm"},
    "calibration": {"numpy"},
}
# Of an extra: imported where the module is asked for, or by its one function that needs it.
OPTIONAL = {
    "fgclip_det.ops.onnx": {"onnxscript"},
    "fgclip_det.encoders.adapters": {"peft"},
}
SCRIPT_FOLDERS = ("tools", "demo", "benchmarks")
MAX_FILE, MAX_FUNCTION, MAX_SCRIPT = 400, 60, 100
MAX_FILES_IN_FOLDER = 14


class Import(NamedTuple):
    """One imported module: its dotted name, its line, and whether it stands inside a function."""

    name: str
    line: int
    in_function: bool


def _names(node: ast.AST, module: str, is_package: bool) -> list[str]:
    """Absolute dotted names that `node` imports, or [] where it is no import."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = module.split(".")
            keep = len(parts) - node.level + (1 if is_package else 0)
            base = ".".join(parts[:keep] + ([base] if base else []))
        # `from fgclip_det import ops` imports the sub-package, not only its parent.
        if base == "fgclip_det":
            return [f"{base}.{alias.name}" for alias in node.names]
        return [base]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
            return [node.args[0].value]
    return []


def find_imports(source: str, module: str, is_package: bool = False) -> list[Import]:
    """Every import of a file, those inside functions and `if TYPE_CHECKING` included."""
    found: list[Import] = []

    def visit(node: ast.AST, in_function: bool) -> None:
        for name in _names(node, module, is_package):
            is_statement = isinstance(node, ast.Import | ast.ImportFrom)
            found.append(Import(name, node.lineno, in_function and is_statement))
        inside = in_function or isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
        )
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(source), False)
    return found


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """What a file of the package does against the table above, one line each.

    Args:
        source: the file's text.
        module: its dotted name, e.g. `fgclip_det.models.vit`.
        is_package: whether it is an `__init__.py`.
    """
    own = module.split(".")[1] if "." in module else ""
    level = LEVELS.get(own)
    if own and level is None:
        return [f"{module}: '{own}' is in no layer; add it to LEVELS and to DESIGN"]
    wrong = []
    for name, line, in_function in find_imports(source, module, is_package):
        if in_function and own not in DEFERRED_IMPORTS_ALLOWED:
            wrong.append(f"{module}:{line}: imports {name} inside a function")
        top, _, rest = name.partition(".")
        if top == "fgclip_det":
            wrong += _internal(module, own, level, line, rest.split(".")[0])
        elif not own and top not in sys.stdlib_module_names:
            wrong.append(f"{module}:{line}: importing fgclip_det must be light, but takes {name}")
        elif top in OPTIONAL.get(module, ()):
            continue
        elif top not in ALLOWED.get(own, {top}) | sys.stdlib_module_names:
            wrong.append(f"{module}:{line}: {own} may not import {name}")
    return wrong


def _internal(module: str, own: str, level: int | None, line: int, target: str) -> list[str]:
    """The verdict on one import of `fgclip_det.<target>`, as a list of zero or one line."""
    if target in ("", "__version__", own):
        return []
    if level is None:
        return [f"{module}:{line}: importing fgclip_det must be light, but takes {target}"]
    if target == "_C":
        return [] if own == "ops" else [f"{module}:{line}: only ops may load the extension"]
    target_level = LEVELS.get(target)
    if target_level is None:
        return [f"{module}:{line}: imports fgclip_det.{target}, which is in no layer"]
    if target == "compat" and level >= 2:
        return []
    if target_level >= level:
        way = "sideways" if target_level == level else "upward"
        return [f"{module}:{line}: imports fgclip_det.{target} ({way})"]
    return []


def _module_of(path: Path) -> tuple[str, bool]:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    is_package = parts[-1] == "__init__"
    return ".".join(parts[:-1] if is_package else parts), is_package


def _package_files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if not {".mim", "assets"} & {*path.parts})


def _script_files() -> list[Path]:
    return sorted(path for folder in SCRIPT_FOLDERS for path in (ROOT / folder).rglob("*.py"))


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", _package_files(), ids=_relative)
def test_imports_point_down(path: Path) -> None:
    module, is_package = _module_of(path)
    wrong = violations(path.read_text(encoding="utf-8"), module, is_package)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", _script_files(), ids=_relative)
def test_scripts_use_public_names(path: Path) -> None:
    wrong = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fgclip_det"):
            dotted = [*node.module.split("."), *(alias.name for alias in node.names)]
            wrong += [f"line {node.lineno}: {name}" for name in dotted if name.startswith("_")]
    assert not wrong, f"private names in a script: {wrong}"


@pytest.mark.parametrize("path", _package_files(), ids=_relative)
def test_nobody_imports_scripts_or_tests(path: Path) -> None:
    module, is_package = _module_of(path)
    names = {
        i.name.split(".")[0] for i in find_imports(path.read_text("utf-8"), module, is_package)
    }
    assert not names & {*SCRIPT_FOLDERS, "tests", "configs"}


def import_circle(sources: Mapping[str, tuple[str, bool]]) -> list[str]:
    """Modules that import one another, first and last the same; [] where none do.

    Imports inside functions and under `if TYPE_CHECKING` count too.

    Args:
        sources: By dotted name, the text of a module, and whether it is an `__init__.py`.
    """
    graph = {}
    for module, (source, is_package) in sources.items():
        wanted = set()
        for node in ast.walk(ast.parse(source)):
            for base in _names(node, module, is_package):
                names = node.names if isinstance(node, ast.ImportFrom) else []
                inner = {f"{base}.{alias.name}" for alias in names} & sources.keys()
                wanted |= inner or {base} & sources.keys()
        graph[module] = wanted - {module}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_no_modules_import_one_another() -> None:
    sources = {}
    for path in _package_files():
        module, is_package = _module_of(path)
        sources[module] = (path.read_text(encoding="utf-8"), is_package)
    assert import_circle(sources) == []


@pytest.mark.parametrize(
    "back",
    [
        "from fgclip_det.a.one import f",
        "from fgclip_det.a import one",
        "from .one import f",
        "import fgclip_det.a.one",
        "def g():\n    from fgclip_det.a.one import f",
        "if TYPE_CHECKING:\n    from fgclip_det.a.one import f",
        "importlib.import_module('fgclip_det.a.one')",
    ],
)
def test_the_check_finds_circles(back: str) -> None:
    sources = {
        "fgclip_det": ("", True),
        "fgclip_det.a": ("from fgclip_det.a.one import f\nfrom fgclip_det.a.two import g", True),
        "fgclip_det.a.one": ("from fgclip_det.a import two", False),
        "fgclip_det.a.two": ("import torch", False),
    }
    assert import_circle(sources) == []
    sources["fgclip_det.a.two"] = (back, False)
    assert set(import_circle(sources)) == {"fgclip_det.a.one", "fgclip_det.a.two"}


def _sized_files() -> list[Path]:
    sources = (".cpp", ".h", ".cu", ".cuh")
    csrc = [p for p in (PACKAGE / "ops" / "csrc").rglob("*") if p.suffix in sources]
    tests = sorted((ROOT / "tests").rglob("*.py"))
    return _package_files() + _script_files() + sorted(csrc) + tests


def test_no_file_is_too_long() -> None:
    wrong = {}
    for path in _sized_files():
        limit = MAX_SCRIPT if path in _script_files() and "tools" in path.parts else MAX_FILE
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > limit:
            wrong[_relative(path)] = f"{lines} > {limit}"
    setup_lines = len((ROOT / "setup.py").read_text(encoding="utf-8").splitlines())
    if setup_lines > 100:
        wrong["setup.py"] = f"{setup_lines} > 100"
    assert not wrong, f"split by idea: {wrong}"


def test_no_folder_is_a_list_of_files() -> None:
    inside = Counter(path.parent for path in _package_files() if path.name != "__init__.py")
    wrong = {_relative(folder): n for folder, n in inside.items() if n > MAX_FILES_IN_FOLDER}
    assert not wrong, f"more than {MAX_FILES_IN_FOLDER} files in a room: {wrong}"


def test_no_function_is_too_long() -> None:
    wrong = []
    for path in _package_files() + _script_files() + sorted((ROOT / "tests").rglob("*.py")):
        for node in _functions(ast.parse(path.read_text(encoding="utf-8"))):
            length = node.end_lineno - node.lineno + 1
            if length > MAX_FUNCTION:
                wrong.append(f"{_relative(path)}:{node.lineno} {node.name}: {length} lines")
    assert not wrong, "one thing per function:\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("fgclip_det.ops.a", "from fgclip_det.encoders import FGCLIP", "upward"),
        ("fgclip_det.ops.a", "import numpy", "ops may not"),
        ("fgclip_det.encoders.a", "from ..vocabulary import Vocabulary", "sideways"),
        ("fgclip_det.encoders.a", "import mmengine.config", "encoders may not"),
        ("fgclip_det.io.a", "import torch", "io may not"),
        ("fgclip_det.exit_codes", "import numpy", "exit_codes may not"),
        ("fgclip_det.fg_ovd.a", "import torch", "fg_ovd may not"),
        ("fgclip_det.fg_ovd.a", "from fgclip_det.encoders import FGCLIP", "sideways"),
        ("fgclip_det.encoders.a", "def f():\n    import torch", "inside a function"),
        ("fgclip_det.models.a", "from fgclip_det import datasets", "sideways"),
        (
            "fgclip_det.models.a",
            "import importlib\nimportlib.import_module('fgclip_det.apis')",
            "upward",
        ),
        ("fgclip_det.compat.a", "from fgclip_det.models import X", "sideways"),
        ("fgclip_det.models.a", "from fgclip_det._C import x", "only ops"),
        ("fgclip_det.unheard.a", "", "no layer"),
        ("fgclip_det", "from . import models", "light"),
        ("fgclip_det", "import torch", "light"),
    ],
)
def test_the_check_finds_violations(module: str, source: str, complaint: str) -> None:
    wrong = violations(source, module, is_package=module == "fgclip_det")
    assert len(wrong) == 1
    assert complaint in wrong[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fgclip_det.encoders.a", "from fgclip_det.ops import roi_align\nfrom .config import C"),
        ("fgclip_det.models.a", "from fgclip_det import compat\nfrom ..vocabulary import V"),
        ("fgclip_det.apis.a", "def f():\n    from fgclip_det.models import X"),
        ("fgclip_det.cli", "def main():\n    from fgclip_det.apis import X"),
        ("fgclip_det.ops.a", "from fgclip_det import _C"),
    ],
)
def test_the_check_passes_what_is_allowed(module: str, source: str) -> None:
    assert violations(source, module) == []
