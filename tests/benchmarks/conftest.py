"""The benchmark that a test file is named after, and others."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def import_benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Gives a script of benchmarks/ as a module; threads that a run sets are set back."""
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    threads = torch.get_num_threads()
    yield lambda name: importlib.import_module(f"benchmarks.{name}")
    torch.set_num_threads(threads)


@pytest.fixture
def benchmark(
    request: pytest.FixtureRequest, import_benchmark: Callable[[str], ModuleType]
) -> ModuleType:
    """The script: ``requery.py`` in ``test_requery.py``."""
    return import_benchmark(request.path.stem.removeprefix("test_"))
