"""Each thing is encoded once, whatever was kept, killed or shared; equal to one at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fgclip_det.evaluation.encoder import EncoderRules
from fgclip_det.evaluation.encoder.features import Features, FeatureStore
from fgclip_det.evaluation.encoder.features import features as module
from fgclip_det.io import read_image
from tests.tiny_encoders import tiny_fgclip, tiny_fgclip2

ROOT = Path(__file__).resolve().parents[4]
TEXTS = ["red circle", "a", "blue star on a green square", "red circle", "", "green " * 30, "b a"]
Counted = dict[str, list[int]]


@pytest.fixture(params=["fgclip", "fgclip2"])
def rules(request: pytest.FixtureRequest) -> EncoderRules:
    make = tiny_fgclip if request.param == "fgclip" else tiny_fgclip2
    return EncoderRules(make(speaks=True))


@pytest.fixture
def counted(rules: EncoderRules, monkeypatch: pytest.MonkeyPatch) -> Counted:
    """How many pictures and texts each call of the encoder got."""
    found: Counted = {"encode_image": [], "encode_dense": [], "encode_tokens": []}

    def spied(own: Callable, calls: list[int]) -> Callable:
        def spy(given, *rest, **named):
            calls.append(len(given))
            return own(given, *rest, **named)

        return spy

    for name, calls in found.items():
        monkeypatch.setattr(rules.encoder, name, spied(getattr(rules.encoder, name), calls))
    return found


def pictures(folder: Path, count: int = 7) -> list[Path]:
    generator = np.random.default_rng(3)
    paths = []
    for number in range(count):
        size = (20 + 37 * (number * 3 % count), 30 + 11 * number, 3)
        paths.append(folder / f"{number}.png")
        Image.fromarray(generator.integers(0, 256, size, dtype=np.uint8)).save(paths[-1])
    return paths


def boxes_of(paths: Sequence[Path]) -> tuple[list[int], np.ndarray]:
    """None, one and several boxes of pictures, not picture by picture."""
    owners = [2, 0, 2, 5, 0, 2, 6]
    corners = np.array([[1 + n, 2, 12 + n, 19 - n] for n in range(7)], dtype=np.float64)
    return owners, corners


def at_full_length(rules: EncoderRules, texts: list[str]) -> torch.Tensor:
    """Padded to what the tower takes; generation 1's would cut that behind the end by itself."""
    encoder, tower = rules.encoder, rules.encoder.text_model
    ids = encoder.tokenize([text.lower() for text in texts], rules.text_length)
    longest = tower.max_length(rules.text_length)
    end = encoder.config.text.eos_token_id if rules.generation == 1 else 0
    full = torch.nn.functional.pad(ids, (0, longest - ids.shape[1]), value=end)
    assert full.shape[1] == longest
    if rules.generation == 2:
        return encoder.encode_tokens(full, rules.text_length)
    hidden = tower.embeddings(full, rules.text_length)
    for block in tower.encoder.layers:
        hidden = block(hidden, is_causal=True)
    first_end = (full == end).int().argmax(dim=1)
    pooled = tower.final_layer_norm(hidden[torch.arange(len(full)), first_end])
    is_long = rules.text_length == "long"
    return (encoder.text_filip_projection if is_long else encoder.text_projection)(pooled)


def test_texts_are_encoded_once_and_equal_to_their_full_length(
    rules: EncoderRules, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TOKENS", 40)
    found = Features(rules).texts(TEXTS)
    assert sum(counted["encode_tokens"]) == 6 and len(counted["encode_tokens"]) > 1
    assert torch.equal(found[0], found[3])
    torch.testing.assert_close(found, at_full_length(rules, TEXTS), atol=1e-5, rtol=0)


@pytest.mark.parametrize("generation", ["fgclip", "fgclip2"])
def test_long_texts_too(generation: str) -> None:
    make = tiny_fgclip if generation == "fgclip" else tiny_fgclip2
    rules = EncoderRules(make(speaks=True), "long")
    found = Features(rules).texts(TEXTS)
    torch.testing.assert_close(found, at_full_length(rules, TEXTS), atol=1e-5, rtol=0)


def test_only_texts_of_a_causal_tower_are_shortened(
    rules: EncoderRules, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths = []
    own = rules.encoder.encode_tokens

    def spy(ids, *rest):
        widths.append(ids.shape[1])
        return own(ids, *rest)

    monkeypatch.setattr(rules.encoder, "encode_tokens", spy)
    monkeypatch.setattr(module, "_TOKENS", 40)
    Features(rules).texts(TEXTS)
    if rules.generation == 1:
        assert widths == sorted(widths) and widths[0] < widths[-1]
    else:
        assert len(set(widths)) == 1


def test_batches_hold_so_many_tokens_padding_too() -> None:
    rows = [(7,) * length for length in (1, 1, 3, 3, 9, 20)]
    lengths = [[len(row) for row in batch] for batch in module._batches_of_tokens(rows, 9)]
    assert lengths == [[1, 1, 3], [3], [9], [20]]
    assert module._batches_of_tokens(rows, 1000) == [rows]
    assert module._batches_of_tokens([], 9) == []


def test_batches_are_small_on_a_cpu(rules: EncoderRules) -> None:
    assert Features(rules).batch_size == 2
    rules.encoder.to("meta")
    assert Features(rules).batch_size == 32


def test_pictures_are_encoded_once_and_equal_to_one_at_a_time(
    rules: EncoderRules, counted: Counted, tmp_path: Path
) -> None:
    paths = pictures(tmp_path)
    given = [*paths, paths[2], paths[0]]
    found = Features(rules, batch_size=3).pictures(given)
    assert counted["encode_image"] == [3, 3, 1]
    alone = [rules.encode_pictures([read_image(path, "stored")]) for path in given]
    torch.testing.assert_close(found, torch.cat(alone), atol=1e-5, rtol=1e-5)
    assert torch.equal(found[2], found[7]) and not torch.equal(found[2], found[3])


def test_a_picture_is_read_once_whatever_its_boxes(
    rules: EncoderRules, counted: Counted, tmp_path: Path
) -> None:
    paths = pictures(tmp_path)
    owners, corners = boxes_of(paths)
    found = Features(rules, batch_size=3).boxes(paths, owners, corners)
    assert counted["encode_dense"] == [3, 1]
    for row, (owner, box) in enumerate(zip(owners, corners, strict=True)):
        (alone,) = rules.encode_boxes([read_image(paths[owner], "stored")], [box[None]])
        torch.testing.assert_close(found[row], alone[0], atol=1e-5, rtol=1e-5)


def every(features: Features, paths: list[Path]) -> list[torch.Tensor]:
    return [
        features.texts(TEXTS),
        features.pictures(paths),
        features.boxes(paths, *boxes_of(paths)),
    ]


def test_a_second_run_asks_the_encoder_for_nothing(
    rules: EncoderRules, counted: Counted, tmp_path: Path
) -> None:
    paths = pictures(tmp_path)
    without = every(Features(rules, 3), paths)
    first = every(Features(rules, 3, store=FeatureStore(tmp_path / "cache", rules)), paths)
    for calls in counted.values():
        calls.clear()
    features = Features(rules, 3, store=FeatureStore(tmp_path / "cache", rules))
    second = every(features, paths)
    assert not any(counted.values()) and features.counts["texts_encoded"] == 0
    for values in zip(without, first, second, strict=True):
        assert torch.equal(values[0], values[1]) and torch.equal(values[1], values[2])


def test_what_is_new_alone_is_encoded(
    rules: EncoderRules, counted: Counted, tmp_path: Path
) -> None:
    paths = pictures(tmp_path)
    owners, corners = boxes_of(paths)
    store = FeatureStore(tmp_path / "cache", rules)
    Features(rules, 3, store=store).pictures(paths[:4])
    Features(rules, 3, store=store).texts(TEXTS[:3])
    Features(rules, 3, store=store).boxes(paths, owners[:4], corners[:4])
    for calls in counted.values():
        calls.clear()
    wanted = every(Features(rules, 3), paths)
    for calls in counted.values():
        calls.clear()
    found = every(Features(rules, 3, store=FeatureStore(tmp_path / "cache", rules)), paths)
    assert {name: sum(calls) for name, calls in counted.items()} == {
        "encode_image": 3,
        "encode_dense": 3,  # 0 and 2 have a new box, 6 is new, 5 is not
        "encode_tokens": 3,
    }
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_a_picture_that_changed_is_encoded_again(
    rules: EncoderRules, counted: Counted, tmp_path: Path
) -> None:
    paths = pictures(tmp_path)
    before = Features(rules, store=FeatureStore(tmp_path / "cache", rules)).pictures(paths)
    Image.new("RGB", (40, 40)).save(paths[1])
    counted["encode_image"].clear()
    after = Features(rules, store=FeatureStore(tmp_path / "cache", rules)).pictures(paths)
    assert counted["encode_image"] == [1]
    assert (before != after).any(dim=1).tolist() == [n == 1 for n in range(7)]


def test_amp_is_near_and_kept_apart(rules: EncoderRules, tmp_path: Path) -> None:
    paths = pictures(tmp_path)
    exact = every(Features(rules, store=FeatureStore(tmp_path / "cache", rules)), paths)
    rough_rules = EncoderRules(rules.encoder, amp=True)
    store = FeatureStore(tmp_path / "cache", rough_rules)
    rough = every(Features(rough_rules, store=store), paths)
    for one, other in zip(exact, rough, strict=True):
        assert other.dtype == torch.float32 and not torch.equal(one, other)
        torch.testing.assert_close(one, other, atol=0.1, rtol=0.1)


_PROCESS = """
import sys
from pathlib import Path
import torch, torch.distributed as dist
from tests.evaluation.encoder.features import test_features as own
from fgclip_det.evaluation.encoder.features import features as module
from fgclip_det.exit_codes import leave
folder, cache, generation, rank, count, ends_after, store_file = sys.argv[1:]
torch.set_num_threads(1)
module._TOKENS = 40
if int(count) > 1:
    init = "file://" + store_file
    dist.init_process_group("gloo", init_method=init, rank=int(rank), world_size=int(count))
make = own.tiny_fgclip if generation == "fgclip" else own.tiny_fgclip2
rules = own.EncoderRules(make(speaks=True))
store = own.FeatureStore(cache, rules) if cache else None
if int(ends_after):
    added = []
    add = store.add
    def dying(*given):
        add(*given)
        added.append(given)
        if len(added) == int(ends_after):
            own.os.kill(own.os.getpid(), own.signal.SIGKILL)
    store.add = dying
paths = sorted(Path(folder).glob("*.png"))
found = own.every(own.Features(rules, 2, store=store), paths)
print(*(own.np.asarray(values).tobytes().hex() for values in found))
leave(0)
"""


def _process(
    folder: Path, generation: str, cache: str = "", rank: int = 0, count: int = 1, ends: int = 0
) -> subprocess.Popen:
    given = [folder, cache, generation, rank, count, ends, folder / "rendezvous"]
    return subprocess.Popen(
        [sys.executable, "-c", _PROCESS, *map(str, given)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "RANK": str(rank)},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("generation", ["fgclip", "fgclip2"])
def test_processes_and_kills_change_no_digit(tmp_path: Path, generation: str) -> None:
    pictures(tmp_path)
    alone, _ = (process := _process(tmp_path, generation)).communicate(timeout=900)
    assert process.returncode == 0 and len(alone.split()) == 3
    shared = [_process(tmp_path, generation, rank=rank, count=2) for rank in (0, 1)]
    for process in shared:
        assert process.communicate(timeout=900)[0] == alone
    cache = str(tmp_path / "cache")
    for ends in (2, 3, 2):
        killed = _process(tmp_path, generation, cache, ends=ends)
        assert killed.communicate(timeout=900)[0] == "" and killed.returncode == -signal.SIGKILL
    resumed, _ = _process(tmp_path, generation, cache).communicate(timeout=900)
    assert resumed == alone
