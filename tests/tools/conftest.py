"""The tool that a test file is named after."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(scope="module")
def main(request: pytest.FixtureRequest) -> Callable[[list[str]], int]:
    """`main` of the tool: of ``rescore.py`` in ``test_rescore.py``."""
    return load_tool(request.path.stem.removeprefix("test_")).main


def load_tool(name: str) -> ModuleType:
    """A tool as a module."""
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
