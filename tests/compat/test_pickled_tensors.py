"""Tensors in pickles are read as numbers, and nothing else of torch is."""

from __future__ import annotations

import io
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from fgclip_det.compat import decode_tensor
from fgclip_det.io import read_pickle


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *args) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple:
        return self.call


def write(folder: Path, values, protocol: int = 2) -> Path:
    path = folder / "values.pkl"
    path.write_bytes(pickle.dumps(values, protocol))
    return path


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_tensors_come_as_arrays(tmp_path: Path, protocol: int) -> None:
    tensors = {
        "part": torch.arange(12.0).view(3, 4)[1:, ::2],
        "whole numbers": torch.tensor([3, -1]),
        "half": torch.tensor([0.5, 2.0]).half(),
        "bfloat16": torch.tensor([0.5, 2.0]).bfloat16(),
        "nothing": torch.zeros(0, 4),
        "scalar": torch.tensor(2.5),
        "flags": torch.tensor([True, False]),
        "trained": torch.ones(2, requires_grad=True),
    }
    found = read_pickle(write(tmp_path, [tensors], protocol), decode_tensor)[0]
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert isinstance(found[name], np.ndarray)
        assert found[name].shape == tuple(tensor.shape)
        assert found[name].tolist() == tensor.tolist(), name
    with pytest.raises(ValueError, match=r"would run 'torch\._utils\._rebuild_tensor_v2'"):
        read_pickle(write(tmp_path, [tensors], protocol))


def _saved(value) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def test_hostile_tensors_do_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    load, rebuild = torch.storage._load_from_bytes, torch._utils._rebuild_tensor_v2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        storage = Call(load, _saved(torch.zeros(2).storage()))
    good = Call(rebuild, storage, 0, (2,), (1,), False, {})
    assert read_pickle(write(tmp_path, [good]), decode_tensor)[0].tolist() == [0, 0]
    hostile = {
        "a program within": Call(load, _saved(Call(os.system, f"touch {mark}"))),
        "no storage within": Call(rebuild, Call(load, _saved([1, 2])), 0, (2,), (1,), False, {}),
        "no storage": Call(rebuild, b"12345678", 0, (2,), (1,), False, {}),
        "text for bytes": Call(load, "abc"),
        "beyond its storage": Call(rebuild, storage, 0, (5,), (1,), False, {}),
        "before its storage": Call(rebuild, storage, -3, (2,), (1,), False, {}),
        "another function of torch": Call(torch.load, "values.pkl"),
        "a program": Call(os.system, f"touch {mark}"),
    }
    for name, value in hostile.items():
        with pytest.raises(ValueError, match=r"values\.pkl' is refused: "):
            read_pickle(write(tmp_path, [value]), decode_tensor)
        assert not mark.exists(), name


def test_a_tensor_that_unpacks_or_repeats_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "values.pkl"
    path.write_bytes(pickle.dumps(torch.zeros(1).expand(10**12)))
    with pytest.raises(ValueError, match=r"values\.pkl' is refused.*repeats what it holds"):
        read_pickle(path, decode_tensor)
    stored, packed = io.BytesIO(_saved(torch.zeros(10**6).untyped_storage())), io.BytesIO()
    with zipfile.ZipFile(stored) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    with pytest.raises(ValueError, match="unpack to"):
        decode_tensor(packed.getvalue(), 0, (1,), (1,))


def test_a_pickle_that_holds_itself_ends(tmp_path: Path) -> None:
    nested: list = []
    nested.append({"a": (nested,)})
    found = read_pickle(write(tmp_path, nested))
    assert found[0]["a"][0] is found
    (tmp_path / "deep.pkl").write_bytes(b"\x80\x02)" + b"\x85" * 20_000 + b".")
    with pytest.raises(ValueError, match=r"deep\.pkl' is refused"):
        read_pickle(tmp_path / "deep.pkl")
    os.mkfifo(tmp_path / "pipe.pkl")
    with pytest.raises(ValueError, match=r"pipe\.pkl' cannot be read"):
        read_pickle(tmp_path / "pipe.pkl")
