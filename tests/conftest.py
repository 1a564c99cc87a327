"""What all tests share: seeds, golden tensors, tiny encoders, and which tests need a GPU.

Tests of packages that need neither torch nor mm* run where these are missing, so this file imports
them in fixtures alone.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A test that reaches for a hub must fail at once, not after a network timeout.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Tests compute little at a time: on a busy machine threads waiting for each other cost most.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """How often a run on two processes is killed, and how to rehearse the tests of a GPU."""
    parser.addoption("--kills", type=int, default=3, help="kills in test_two_processes")
    parser.addoption(
        "--cpu-for-cuda",
        action="store_true",
        help="run the gpu tests of the operators on the CPU: whether they run at all",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips the `gpu` tests where torch sees no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked or config.getoption("--cpu-for-cuda"):
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def seed() -> None:
    """Seeds every generator, so that a test gives the same numbers alone and in the suite."""
    import numpy as np

    random.seed(0)
    np.random.seed(0)
    try:
        import torch
    except ImportError:
        return
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_default_scope() -> None:
    """Forgets what a `Runner` of an earlier test leaves behind: MMEngine's scope and visualizer."""
    default_scope = sys.modules.get("mmengine.registry.default_scope")
    if default_scope is not None:
        default_scope.DefaultScope._instance_dict.clear()
    visualizer = sys.modules.get("mmengine.visualization.visualizer")
    if visualizer is not None:
        visualizer.Visualizer._instance_dict.clear()


@pytest.fixture(autouse=True)
def unformatted_configs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dumps configs as they are, not laid out by yapf.

    That takes seconds, and MMEngine reports whatever interrupts it, be it the timeout of a test, as
    a syntax error of the config.
    """
    config = sys.modules.get("mmengine.config.config")
    if config is not None:
        monkeypatch.setattr(config, "FormatCode", lambda text, **_: (text, False))


@pytest.fixture
def mmdet_scope(no_default_scope: None) -> None:
    """The scope of a config of ours, for a test that builds its parts without a `Runner`."""
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet")


@pytest.fixture
def fill_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Gives a function that lets the disk take so many files more, and then no other."""

    def fill_disk(files: int) -> None:
        written = itertools.count(1)

        def fsync(handle: int) -> None:
            if next(written) > files:
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fsync)

    return fill_disk


@pytest.fixture
def room_for() -> Callable[[int], AbstractContextManager[None]]:
    """Gives a context inside which no file takes more than so many bytes, whoever writes it."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def room_for(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return room_for


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The folder that holds pyproject.toml."""
    return ROOT


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Reference tensors: `tests/golden`, or `../shared/golden` beside the checkout."""
    for folder in (ROOT / "tests" / "golden", ROOT.parent / "shared" / "golden"):
        if folder.is_dir():
            return folder
    pytest.skip("the golden tensors are neither in tests/golden nor in ../shared/golden")


@pytest.fixture(scope="session")
def encoder_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A three-block FG-CLIP with 16-pixel patches and a tokenizer, in the published layout.

    All tests share it: copy what you change. `tiny_encoders.py` builds others.
    """
    from tests.tiny_encoders import tiny_fgclip

    directory = tmp_path_factory.mktemp("encoder")
    tiny_fgclip(speaks=True, depth=3).save_pretrained(directory)
    return str(directory)


@pytest.fixture(scope="session")
def encoder2_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same of FG-CLIP 2."""
    from tests.tiny_encoders import tiny_fgclip2

    directory = tmp_path_factory.mktemp("encoder2")
    tiny_fgclip2(speaks=True, depth=3).save_pretrained(directory)
    return str(directory)


@pytest.fixture(scope="session")
def bundled_detector():
    """The `OpenVocabInferencer` of the bundled model on the CPU, loaded once for all tests.

    Without calibration and negatives: it gives shares of what is asked for.
    """
    from fgclip_det.apis import OpenVocabInferencer

    detector = OpenVocabInferencer(device="cpu", calibration=None)
    detector.set_negatives(None)
    return detector


@pytest.fixture(scope="session")
def _calibrated_detector():
    from fgclip_det.apis import OpenVocabInferencer

    return OpenVocabInferencer(device="cpu")


@pytest.fixture
def calibrated_detector(_calibrated_detector, monkeypatch: pytest.MonkeyPatch):
    """The same model as users get it; what a test sets is undone."""
    monkeypatch.setattr(_calibrated_detector, "texts", None)
    monkeypatch.setattr(_calibrated_detector.model.encoder, "_warned_truncation", False)
    yield _calibrated_detector
    _calibrated_detector.set_negatives()
    _calibrated_detector.set_calibration()


@pytest.fixture
def cached_detector(calibrated_detector, monkeypatch: pytest.MonkeyPatch):
    """Lets the command line take `calibrated_detector` instead of loading it again."""
    from fgclip_det.apis import inferencer

    def make(model=None, weights=None, encoder=None, device=None, calibration="auto"):
        calibrated_detector.set_calibration(calibration)
        return calibrated_detector

    monkeypatch.setattr(inferencer, "OpenVocabInferencer", make)
    return calibrated_detector


@pytest.fixture(scope="session")
def generated_coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small COCO 2017 (30 + 20 images) with LVIS v1 beside it; see `generated_coco.py`.

    All tests share it: copy what you change.
    """
    import importlib.util

    path = ROOT / "tests" / "generated_coco.py"
    spec = importlib.util.spec_from_file_location("generated_coco", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_lvis(module.generate_coco(tmp_path_factory.mktemp("coco")))
