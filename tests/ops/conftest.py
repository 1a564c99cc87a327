"""The emulator of the CUDA kernels, compiled once for all tests of a run."""

from __future__ import annotations

import shutil

import pytest

from tests.ops.emulated import Emulator


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    """The kernels as they are built usually."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ on the PATH")
    return Emulator(tmp_path_factory.mktemp("cuda_emulation"))


@pytest.fixture(scope="session")
def silent_emulator(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    """Without the assertion that boxes name an image."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ on the PATH")
    folder = tmp_path_factory.mktemp("silent_cuda_emulation")
    return Emulator(folder, "-DFGCLIP_DET_NO_INDEX_ASSERTION")
