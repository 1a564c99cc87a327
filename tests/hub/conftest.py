"""A hub that listens on this machine, and an empty cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from fgclip_det.hub import repositories
from tests.hub.loopback import Hub, serve


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's client."""
    folder = tmp_path / "hub cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """What the hub's client reaches, in place of the real one."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with serve() as served:
        monkeypatch.setattr(repositories, "_ENDPOINT", served.url)
        yield served
