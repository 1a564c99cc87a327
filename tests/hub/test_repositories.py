"""Repositories of a hub on this machine: fetched once, kept, and refused with words."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from fgclip_det.encoders import FGCLIP, build_encoder
from fgclip_det.hub import fetch, pin, read_record, repositories, resolve_directory
from fgclip_det.hub.records import record_path
from tests.hub.loopback import Hub, Repository, repository_of
from tests.messages import says
from tests.tiny_encoders import tiny_fgclip

FILES = {
    "config.json": b"{}",
    "model.safetensors": b"x" * 5000,
    "modeling.py": b"boo",
    "a.bin": b"",
}


@pytest.fixture
def one(hub: Hub) -> Repository:
    """The repository "a/one"."""
    hub.repositories["a/one"] = Repository(dict(FILES), tags=("v1",))
    return hub.repositories["a/one"]


def test_is_fetched_once_and_says_what(hub: Hub, one: Repository, cache: Path) -> None:
    with pytest.warns(UserWarning, match=says("a/one", one.commit, "5 kB", "apache-2.0", cache)):
        directory = resolve_directory("a/one", kind="detector")
    assert sorted(path.name for path in directory.iterdir()) == ["config.json", "model.safetensors"]
    assert read_record("a/one").commit == one.commit
    hub.requests.clear()
    assert resolve_directory("a/one") == directory
    assert hub.requests == []


def test_no_request_without_a_network(hub: Hub, one: Repository, monkeypatch) -> None:
    directory = fetch("a/one")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(repositories, "_ENDPOINT", "http://127.0.0.1:9")
    assert fetch("a/one") == directory
    started = time.perf_counter()
    with pytest.raises(ValueError, match=says("'a/two'", "fgclip-det models fetch a/two")):
        fetch("a/two")
    with pytest.raises(ValueError, match=says("a/one@v1", "HF_HUB_OFFLINE")):
        fetch("a/one", "v1")
    assert time.perf_counter() - started < 20


def test_stays_at_its_commit_until_it_is_pinned(hub: Hub, one: Repository) -> None:
    first, commit = fetch("a/one"), one.commit
    one.files["config.json"] = b'{"new": 1}'
    assert fetch("a/one") == first
    assert pin("a/one").commit == one.commit != commit
    second = fetch("a/one")
    assert (second / "config.json").read_bytes() == b'{"new": 1}'
    assert second.name == one.commit
    assert (first / "config.json").read_bytes() == b"{}"


def test_revisions_have_records_of_their_own(hub: Hub, one: Repository) -> None:
    tagged = fetch("a/one", "v1")
    assert read_record("a/one") is None
    assert read_record("a/one", "v1").commit == tagged.name == one.commit
    assert fetch("a/one", one.commit) == tagged
    with pytest.raises(ValueError, match=says("'a/one'", "no revision 'nope'")):
        fetch("a/one", "nope")


def test_goes_on_after_a_broken_transfer(hub: Hub, one: Repository) -> None:
    hub.break_after = 1000
    # Of files as small as this one, older clients begin again only when they are asked again.
    with contextlib.suppress(ValueError):
        fetch("a/one")
    directory = fetch("a/one")
    assert hub.break_after is None
    assert (directory / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_half_fetched_repository_is_completed(hub: Hub, one: Repository) -> None:
    directory = fetch("a/one")
    (directory / "model.safetensors").unlink()
    assert (fetch("a/one") / "model.safetensors").is_file()
    shutil.rmtree(directory)
    assert (fetch("a/one") / "config.json").is_file()


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"commit": "x"}', b"\xff"])
def test_a_broken_record_is_made_anew(hub: Hub, one: Repository, content: bytes) -> None:
    directory = fetch("a/one")
    record_path("a/one", None).write_bytes(content)
    assert read_record("a/one") is None
    assert fetch("a/one") == directory
    assert read_record("a/one").fetched


def test_a_record_cannot_point_outside(hub: Hub, one: Repository) -> None:
    fetch("a/one")
    path = record_path("a/one", None)
    path.write_text(path.read_text().replace("config.json", "../../config.json"))
    assert read_record("a/one") is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"status": 401}, ("private", "hf auth login")),
        ({"status": 404, "error": "RepoNotFound"}, ("'a/one'", "private")),
        ({"status": 403, "error": "GatedRepo"}, ("gated", "terms")),
        ({"status": 500}, ("'a/one'", "fgclip-det models fetch a/one")),
        ({"files": {"config.json": b"{}", "pytorch_model.bin": b""}}, ("pickles", "safetensors")),
        ({"files": {"config.json": b"{}"}}, ("no safetensors",)),
    ],
)
def test_refused_repositories(hub: Hub, one: Repository, settings: dict, words: tuple) -> None:
    for name, value in settings.items():
        setattr(one, name, value)
    with pytest.raises(ValueError, match=says(*words)):
        fetch("a/one")
    assert not any("resolve" in request for request in hub.requests)


def test_licences_that_nobody_states(hub: Hub, one: Repository) -> None:
    one.licence = None
    assert pin("a/one").licence == "not stated"


def test_no_space(hub: Hub, one: Repository, cache: Path, monkeypatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(repositories.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(ValueError, match=says("5 kB", cache, "free some", "HF_HOME")):
        fetch("a/one")


def test_a_cache_that_cannot_be_written(hub: Hub, one: Repository, cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises((ValueError, OSError), match=str(cache)):
        fetch("a/one")


@pytest.mark.parametrize("name", ["a", "a/b/c", "/a/b", "./a", "a/", "a\0/b", "x" * 5000])
def test_names_that_are_neither(hub: Hub, name: str) -> None:
    with pytest.raises(ValueError, match=r"director|hub"):
        resolve_directory(name, kind="detector")
    assert hub.requests == []


@pytest.mark.parametrize("name", ["a b/c", "a/ä", "a/--b"])
def test_names_that_no_hub_has(hub: Hub, name: str) -> None:
    with pytest.raises(ValueError, match=says("hub")):
        resolve_directory(name)


def test_encoders_come_from_a_hub(hub: Hub, tmp_path: Path) -> None:
    model = tiny_fgclip(speaks=True)
    model.save_pretrained(tmp_path / "encoder")
    hub.repositories["a/clip"] = repository_of(tmp_path / "encoder", tags=("v2",))
    loaded = FGCLIP.from_pretrained("a/clip")
    assert loaded.fingerprint == model.fingerprint
    assert build_encoder({"name": "a/clip", "revision": "v2"}).fingerprint == model.fingerprint
    assert read_record("a/clip", "v2").fetched
    with pytest.raises(ValueError, match=says("name", "revision", "size")):
        build_encoder({"name": "a/clip", "size": 3})
