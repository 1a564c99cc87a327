"""``fgclip-det models`` on a hub of this machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from huggingface_hub import constants

from fgclip_det.cli import main
from fgclip_det.hub import read_record, repositories
from tests.hub.loopback import Hub, Repository

DETECTOR, ENCODER = "google/owlv2-base-patch16-ensemble", "qihoo360/fg-clip2-base"
OTHERS = "ustc-community/dfine-large-obj365", "ustc-community/dfine-small-obj365"


@pytest.fixture
def filled(hub: Hub) -> Hub:
    """Serves all that the presets need."""
    for size, name in enumerate((DETECTOR, ENCODER, *OTHERS), 1):
        files = {"config.json": b"{}", "model.safetensors": b"x" * (2000 * size), "run.py": b"boo"}
        hub.repositories[name] = Repository(files, licence="apache-2.0" if size != 2 else None)
    return hub


def models(*arguments: str) -> int:
    return main(["models", *arguments])


def test_list_asks_nobody(filled: Hub, cache: Path, capsys) -> None:
    assert models("list") == 0
    printed = capsys.readouterr().out
    for name in (DETECTOR, ENCODER, *OTHERS):
        assert printed.count(name) == 1
    assert printed.count("not asked yet") == 4
    assert "(of default, balanced, fast)" in printed and str(cache) in printed
    assert filled.requests == [] and not cache.exists()


def test_pin_fetch_and_then_no_network(filled: Hub, capsys, monkeypatch) -> None:
    assert models("pin") == 0
    printed = capsys.readouterr().out
    for name in (DETECTOR, ENCODER, *OTHERS):
        assert filled.repositories[name].commit in printed
    assert "4 kB, licence not stated, not cached" in printed
    assert not any("resolve" in request for request in filled.requests)
    pinned = filled.repositories[ENCODER].commit
    assert models("list", "default") == 0
    assert f"not cached, {pinned}" in capsys.readouterr().out
    assert models("fetch") == 0
    out, err = capsys.readouterr()
    assert f"encoder {ENCODER}: cached, {pinned}" in out
    assert err.count("note: fetching") == 2 and "licence apache-2.0, into" in err
    filled.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert models("fetch", "default") == 0
    assert models("list", "default") == 0
    out, err = capsys.readouterr()
    assert out.count(": cached, ") == 4 and "fetching" not in err
    assert filled.requests == []


def test_pin_tells_what_moved(filled: Hub, capsys) -> None:
    assert models("fetch", ENCODER) == 0
    old = filled.repositories[ENCODER].commit
    filled.repositories[ENCODER].files["config.json"] = b'{"newer": 1}'
    capsys.readouterr()
    assert models("pin", ENCODER) == 0
    new = filled.repositories[ENCODER].commit
    assert re.search(f"{new}.*, was {old}, not cached", capsys.readouterr().out)
    assert models("pin", ENCODER) == 0
    assert "was" not in capsys.readouterr().out


def test_a_revision(filled: Hub, capsys) -> None:
    filled.repositories[ENCODER].tags = ("v1",)
    assert models("fetch", f"{ENCODER}@v1") == 0
    assert f"{ENCODER}@v1: cached" in capsys.readouterr().out
    assert read_record(ENCODER, "v1").fetched and read_record(ENCODER) is None


def test_a_part_is_done(filled: Hub, capsys) -> None:
    del filled.repositories[DETECTOR]
    assert models("fetch") == 3
    out, err = capsys.readouterr()
    assert f"{ENCODER}: cached" in out
    assert f"error: the hub has no repository '{DETECTOR}'" in err and "private" in err


@pytest.mark.parametrize("action", ["fetch", "pin"])
def test_not_reachable(action: str, cache: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(repositories, "_ENDPOINT", "http://127.0.0.1:9")
    assert models(action) == 2
    err = capsys.readouterr().err
    assert f"run `fgclip-det models fetch {DETECTOR}`" in err
    assert err.count("error:") == 1 and "Traceback" not in err


@pytest.mark.parametrize("name", ["slow", "a/b/c", "/b", "a/", "@v1", ""])
def test_names_that_are_none(name: str, filled: Hub, capsys) -> None:
    assert models("fetch", name) == 2
    assert "neither a preset (default, balanced, fast) nor a hub id" in capsys.readouterr().err
    assert filled.requests == []
