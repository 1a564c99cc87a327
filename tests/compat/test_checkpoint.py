"""Checkpoints load without running code; mmengine's own save, resume and load_from work."""

import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from fgclip_det.compat import load_checkpoint_file, safe_pickle

mmengine = pytest.importorskip("mmengine")
from mmengine.config import ConfigDict  # noqa: E402
from mmengine.logging import HistoryBuffer  # noqa: E402
from mmengine.model import BaseModel  # noqa: E402
from mmengine.runner import Runner, load_checkpoint  # noqa: E402


class Regression(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)

    def forward(self, inputs: list, mode: str = "tensor"):
        prediction = self.linear(torch.stack(inputs))
        return {"loss": prediction.square().mean()} if mode == "loss" else prediction


class Points(torch.utils.data.Dataset):
    METAINFO = ConfigDict(classes=("a", "b"), palette=[(1, 2, 3)], size=np.float32(2.5))

    @property
    def metainfo(self) -> dict:
        return self.METAINFO

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict:
        return {"inputs": torch.tensor([float(index), 1.0])}


def runner(work_dir: Path, epochs: int, name: str, ema: bool = True, **options) -> Runner:
    return Runner(
        Regression(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=Points(),
            batch_size=4,
            num_workers=0,
            sampler=dict(type="DefaultSampler", shuffle=True),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type="AdamW", lr=1e-2)),
        param_scheduler=[
            dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=2),
            dict(type="MultiStepLR", milestones=[1], by_epoch=True),
            dict(type="CosineAnnealingLR", T_max=4, by_epoch=True),
        ],
        custom_hooks=[dict(type="EMAHook")] if ema else [],
        default_scope="mmengine",
        experiment_name=name,
        **options,
    )


def test_mmengine_trains_saves_resumes_and_loads(tmp_path: Path) -> None:
    first = runner(tmp_path / "run", 1, "compat_first")
    first.train()
    saved = tmp_path / "run" / "epoch_1.pth"
    checkpoint = load_checkpoint_file(saved)
    history = checkpoint["message_hub"]["log_scalars"]["train/loss"]
    assert isinstance(history, HistoryBuffer) and type(history.data[0]) is np.ndarray
    original = first.message_hub.get_scalar("train/loss")
    np.testing.assert_array_equal(history.data[0], original.data[0])
    assert history.statistics("mean") == pytest.approx(original.mean())
    assert checkpoint["meta"]["dataset_meta"]["classes"] == ("a", "b")
    assert "optimizer" in checkpoint and "param_schedulers" in checkpoint

    again = runner(tmp_path / "run", 2, "compat_again", resume=True)
    again.train()
    assert again.epoch == 2 and (tmp_path / "run" / "epoch_2.pth").is_file()

    loaded = runner(tmp_path / "other", 1, "compat_loaded", False, load_from=str(saved))
    loaded.load_or_resume()
    assert torch.equal(loaded.model.linear.weight, checkpoint["state_dict"]["linear.weight"])


def test_mmengine_loads_through_our_reader(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    model = Regression()
    safetensors.torch.save_file(model.state_dict(), path)
    other = Regression()
    load_checkpoint(other, str(path))
    assert torch.equal(other.linear.weight, model.linear.weight)


@pytest.mark.parametrize(
    "value",
    [
        np.float64(1.5),
        np.int64(-3),
        np.bool_(True),
        np.str_("héllo"),
        np.arange(6, dtype=np.int32).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(3, dtype=">f8"),
        np.array(["ab", "c"]),
        np.array(2.0, dtype=np.float16),
        np.zeros((0, 4), dtype=np.float32),
        np.array([True, False]),
    ],
)
def test_plain_numpy_values_come_back_equal(tmp_path: Path, value: object) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"state_dict": {"w": torch.ones(1)}, "meta": {"nested": [(value,)]}}, path)
    loaded = load_checkpoint_file(path)["meta"]["nested"][0][0]
    assert type(loaded) is type(value)
    np.testing.assert_array_equal(loaded, value)
    # numpy itself turns a foreign byte order into the native one when it unpickles.
    assert np.asarray(loaded).dtype == np.asarray(value).dtype.newbyteorder("=")


def test_plain_torch_load_reads_arrays_that_save_again(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"a": np.arange(3.0)}, path)
    array = torch.load(path, weights_only=True)["a"]
    assert isinstance(array, np.ndarray)
    again = pickle.loads(pickle.dumps(array))
    assert type(again) is np.ndarray and again.tolist() == [0.0, 1.0, 2.0]


class RunsCode:
    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


def leave_mark(path: str) -> None:
    Path(path).write_text("executed")


def one_line_error(path: Path) -> str:
    with pytest.raises(ValueError) as caught:
        load_checkpoint_file(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


@pytest.mark.parametrize("protocol", ["zip", "legacy", "bare"])
@pytest.mark.parametrize("function", [os.system, leave_mark, exec])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, protocol: str, function) -> None:
    mark, path = tmp_path / "mark", tmp_path / "evil.pth"
    arguments = {
        os.system: f"touch {mark}",
        leave_mark: str(mark),
        exec: f"open({str(mark)!r}, 'w').close()",
    }
    content = {"state_dict": {"w": torch.ones(1)}, "x": RunsCode(function, arguments[function])}
    if protocol == "bare":
        path.write_bytes(pickle.dumps(RunsCode(function, arguments[function]), 2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=protocol == "zip")
    message = one_line_error(path)
    assert "refused" in message and function.__name__ in message
    assert not mark.exists()
    with pytest.raises(ValueError, match="refused"):
        load_checkpoint(Regression(), str(path))
    assert not mark.exists()


def forge_pointer_array() -> RunsCode:
    """An 8-byte float dtype that claims to hold an object, filled from raw bytes."""
    dtype = RunsCode(np.dtype, "f8", False, True)
    structure = (3, "<", None, ("a",), {"a": (np.dtype("f4"), 0)}, 8, 8, 1)
    dtype.__class__ = type(
        "Forged", (RunsCode,), {"__reduce__": lambda self: (*self.call, structure)}
    )
    return dtype


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (forge_pointer_array(), "dtype state"),
        (np.array([{"a": 1}], dtype=object), "'O8'"),
        (np.zeros(2, dtype=[("x", "f4")]), "'V4'"),
        (RunsCode(getattr, np.float32, "newbyteorder"), "numpy.float32"),
        (RunsCode(getattr, HistoryBuffer, "__init__"), "__init__"),
    ],
    ids=["forged dtype", "objects", "structured", "getattr", "method"],
)
def test_allow_listed_names_rebuild_plain_values_only(
    tmp_path: Path, value: object, named: str
) -> None:
    path = tmp_path / "odd.pth"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save({"state_dict": {"w": torch.ones(1)}, "x": value}, path)
    message = one_line_error(path)
    assert "refused" in message and named in message


def test_missing_empty_and_truncated_files(tmp_path: Path) -> None:
    assert "does not exist" in one_line_error(tmp_path / "none.pth")
    empty = tmp_path / "empty.pth"
    empty.touch()
    assert "is empty" in one_line_error(empty)
    whole = tmp_path / "whole.pth"
    torch.save({"state_dict": {"w": torch.ones(500)}}, whole)
    cut = tmp_path / "cut.pth"
    cut.write_bytes(whole.read_bytes()[:900])
    assert "truncated" in one_line_error(cut)
    tensors = tmp_path / "whole.safetensors"
    safetensors.torch.save_file({"w": torch.ones(500)}, tensors)
    short = tmp_path / "cut.safetensors"
    short.write_bytes(tensors.read_bytes()[:900])
    assert "truncated" in one_line_error(short)
    garbage = tmp_path / "picture.pth"
    garbage.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    one_line_error(garbage)


def test_wrong_kinds_are_named(tmp_path: Path) -> None:
    path = tmp_path / "wrong.pth"
    torch.save({"optimizer": {"lr": 0.1}, "epoch": 3}, path)
    message = one_line_error(path)
    assert "'epoch', 'optimizer'" in message and "state_dict" in message
    torch.save([1, 2], path)
    assert "list" in one_line_error(path)


def test_bare_and_model_state_dicts_are_given_as_state_dict(tmp_path: Path) -> None:
    path = tmp_path / "bare.pt"
    state = Regression().state_dict()
    for content in (state, {"model": state}):
        torch.save(content, path)
        loaded = load_checkpoint_file(path)["state_dict"]
        assert torch.equal(loaded["linear.weight"], state["linear.weight"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_cuda_is_not_called_truncated(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {"w": torch.ones(1)}}, path)
    safetensors.torch.save_file({"w": torch.ones(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="device"):
        load_checkpoint_file(path, map_location="cuda")


def test_register_twice_is_harmless() -> None:
    safe_pickle.register()
    names = [item[1] for item in torch.serialization.get_safe_globals() if type(item) is tuple]
    assert names.count("numpy.dtype") == 1
