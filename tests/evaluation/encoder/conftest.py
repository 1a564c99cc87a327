"""The golden data sets and encoders of FG-CLIP's own evaluation."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def golden_sets(golden_dir: Path) -> Path:
    """Small data sets in stock files, and what the authors' code gives on them."""
    folder = golden_dir / "evaluation"
    if not folder.is_dir():
        pytest.skip("the golden tensors have no evaluation/")
    return folder


@pytest.fixture(scope="session")
def golden_encoder(
    golden_dir: Path, golden_sets: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Gives the directory of "fgclip" or "fgclip2": weights with the tokenizer beside them."""
    root = tmp_path_factory.mktemp("encoders")

    def directory(generation: str) -> Path:
        folder = root / generation
        if not folder.exists():
            shutil.copytree(golden_dir / f"{generation}_tiny", folder)
            shutil.copytree(golden_sets / "tokenizers" / generation, folder, dirs_exist_ok=True)
        return folder

    return directory


@pytest.fixture
def copy_set(golden_sets: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Gives a copy of a golden set that a test may break."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(golden_sets / name, tmp_path / name))

    return copy
