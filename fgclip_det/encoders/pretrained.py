"""The published Hugging Face layout: find the files, read them strictly, write them back.

A checkpoint is a directory (or a hub repository) with ``config.json``, ``model.safetensors`` or
``model.safetensors.index.json`` with its shards, the tokenizer's files and
``preprocessor_config.json``. No code is ever taken from it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fgclip_det.encoders.sizes import check_stored
from fgclip_det.io import (
    disk_error,
    listed,
    one_line,
    quoted,
    read_json,
    read_tensor_header,
    replaced_file,
    write_json,
)
from fgclip_det.ops.finite import check_finite

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
_Config = TypeVar("_Config")
_Model = TypeVar("_Model", bound=nn.Module)
Complete = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]

# Buffers that older transformers releases, or the authors' training code, store beside the
# parameters; they hold nothing that the sizes do not say.
_DERIVED_SUFFIXES = (".position_ids", ".mask1", ".mask2")


def read_config(path: Path) -> dict:
    """Content of a JSON file of a checkpoint.

    Raises:
        ValueError: It is missing or is no JSON object.
    """
    if not os.path.lexists(path):
        raise ValueError(f"{str(path.parent)!r} holds no {path.name}: not a checkpoint directory")
    values = read_json(path)
    if not isinstance(values, dict):
        raise ValueError(f"{str(path)!r} holds a {type(values).__name__}, not a JSON object")
    return values


def read_sizes(directory: Path, from_dict: Callable[[dict], _Config]) -> _Config:
    """The sizes that ``config.json`` states.

    Raises:
        ValueError: It is missing or broken, or `from_dict` refuses it; names the file.
    """
    path = directory / CONFIG_NAME
    values = read_config(path)
    try:
        return from_dict(values)
    except ValueError as error:
        raise ValueError(f"{str(path)!r}: {error}") from None


def read_model(
    directory: Path, config: Any, build: Callable[[], _Model], complete: Complete
) -> _Model:
    """A model with the weights of a checkpoint, which are known to fit before anything is built.

    Args:
        directory: Of the checkpoint.
        config: Sizes of both towers.
        build: Makes the model, with weights of no meaning.
        complete: Adds what the model has more than a checkpoint that it starts from.

    Returns:
        The model in float32, in eval mode, without gradients.

    Raises:
        ValueError: The weights are broken, do not fit the config, or are not finite.
    """
    where = repr(str(directory))
    shapes = {
        key: shape for header in _read_headers(directory).values() for key, shape in header.items()
    }
    check_stored(config, shapes, f"the weights in {where}")
    with torch.device("meta"), _Undrawn():
        # Of shapes alone: the config may ask for more than the weights, or this machine, hold.
        given = complete({key: torch.empty(shape) for key, shape in shapes.items()})
        model = build()
        check_fit(model, given, where)
    # Each number is in the weights: drawing others first would take most of the time.
    # `to_empty` does this, by way of the meta device's kernels: see `_Undrawn`.
    model._apply(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype))
    load_strictly(model, complete(read_weights(directory)), where)
    return model.eval().requires_grad_(False)


class _Undrawn(TorchFunctionMode):
    """Draws no normal numbers on the meta device, where to draw them brings torch's compiler.

    That device's Python kernels, of normal numbers and of most arithmetic, import it: as much as
    torch itself. So the models do no arithmetic where they are built.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is nn.init.normal_:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def read_weights(directory: Path) -> dict[str, Tensor]:
    """All tensors of a single-file or sharded safetensors checkpoint, on the CPU.

    Raises:
        ValueError: A file is missing, truncated or of another kind, or is not what its index says.
    """
    weights: dict[str, Tensor] = {}
    for shard, shapes in _read_headers(directory).items():
        path = directory / shard
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise ValueError(
                f"{str(path)!r} cannot be read ({one_line(error)}): truncated or not safetensors, "
                "copy it again"
            ) from None
        weights.update({key: tensors[key] for key in shapes})
    return weights


def stored_shapes(directory: Path) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of a checkpoint, by its name; only headers are read.

    Raises:
        ValueError: As `read_weights`.
    """
    headers = _read_headers(directory).values()
    return {key: shape for header in headers for key, shape in header.items()}


def _read_headers(directory: Path) -> dict[str, dict[str, tuple[int, ...]]]:
    """File name -> key -> shape: of all tensors of a single file, of those that an index names."""
    index = directory / INDEX_NAME
    if os.path.lexists(directory / WEIGHTS_NAME):
        return {WEIGHTS_NAME: read_tensor_header(directory / WEIGHTS_NAME, "weights").shapes}
    if not os.path.lexists(index):
        raise ValueError(
            f"{str(directory)!r} holds neither {WEIGHTS_NAME} nor {INDEX_NAME}: convert pickled "
            "weights to safetensors first"
        )
    headers: dict[str, dict[str, tuple[int, ...]]] = {}
    for shard, keys in _read_index(index).items():
        if not os.path.lexists(directory / shard):
            raise ValueError(
                f"{str(directory)!r} lacks the shard {quoted(shard)} that its index names"
            )
        shapes = read_tensor_header(directory / shard, "shard").shapes
        absent = [key for key in keys if key not in shapes]
        if absent:
            raise ValueError(
                f"shard {str(directory / shard)!r} lacks tensors that {INDEX_NAME} has in it: "
                f"{listed(absent, 'missing tensors')}: copy both again"
            )
        headers[shard] = {key: shapes[key] for key in keys}
    return headers


def _read_index(index: Path) -> dict[str, list[str]]:
    """The shards that an index names, and the keys of each."""
    where, weight_map = repr(str(index)), read_config(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(
            f"{where} has the weight_map {quoted(weight_map)}: it must name the shard of each "
            "tensor; copy it again"
        )
    shards: dict[str, list[str]] = {}
    for key, shard in weight_map.items():
        if not isinstance(shard, str) or not shard.isprintable() or not shard.strip("."):
            raise ValueError(f"{where} names the shard {quoted(shard)}, which is no file's name")
        if {"/", "\\"} & {*shard}:
            raise ValueError(
                f"{where} names the shard {quoted(shard)} outside its own directory: copy it again"
            )
        shards.setdefault(shard, []).append(key)
    return shards


def check_fit(module: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Make sure that `weights` has each entry of the module's state and no other, of its shape.

    Raises:
        ValueError: Lists every missing, unexpected and misshapen key.
    """
    own, given = module.state_dict(), _parameters(weights)
    faults = [
        f"{key} is {tuple(given[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own
        if key in given and given[key].shape != own[key].shape
    ]
    faults += [f"missing {key}" for key in own if key not in given]
    faults += [f"unexpected {key}" for key in given if key not in own]
    if faults:
        raise ValueError(
            f"{where} does not fit its config: {listed(faults, 'unfitting weights', '; ')}"
        )


def load_strictly(module: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Copy `weights` into `module`, each parameter exactly once.

    Args:
        module: Of float32.
        weights: By their names.
        where: Whose they are, for messages.

    Raises:
        ValueError: Lists every missing, unexpected and misshapen key, or names a tensor that holds
            NaN or an infinity.
    """
    check_fit(module, weights, where)
    module.load_state_dict(_parameters(weights), strict=True)
    # Of what became of them: a number of float64 may be an infinity of float32.
    check_finite(module.state_dict(), where)


def _parameters(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in weights.items() if not key.endswith(_DERIVED_SUFFIXES)}


def write_checkpoint(
    directory: Path, config: dict, weights: dict[str, Tensor], dtype: torch.dtype
) -> None:
    """Write ``config.json`` and ``model.safetensors``, the tensors stored in `dtype`."""
    tensors = {key: value.detach().to("cpu", dtype).contiguous() for key, value in weights.items()}
    with replaced_file(directory / WEIGHTS_NAME) as partial:
        try:
            save_file(tensors, partial, metadata={"format": "pt"})
        except SafetensorError as error:
            raise disk_error(error, partial) from error
    write_json(directory / CONFIG_NAME, config, indent=2)


def fingerprint(config: dict, weights: dict[str, Tensor]) -> str:
    """16 hex digits that change with any size or weight of a model."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for key in sorted(weights):
        tensor = weights[key].detach().to("cpu", torch.float32).contiguous()
        digest.update(key.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]
