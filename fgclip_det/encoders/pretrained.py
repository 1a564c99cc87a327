"""The published Hugging Face layout: find the files, read them strictly, write them back.

A checkpoint is a directory (or a hub repository) with ``config.json``, ``model.safetensors`` or
``model.safetensors.index.json`` with its shards, the tokenizer's files and
``preprocessor_config.json``. No code is ever taken from it.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fgclip_det.io import read_json, replaced_file, write_json

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
_HUB_FILES = ["*.json", "*.safetensors", "*.txt"]

# Buffers that older transformers releases, or the authors' training code, store beside the
# parameters; they hold nothing that the sizes do not say.
_DERIVED_SUFFIXES = (".position_ids", ".mask1", ".mask2")


def resolve_directory(name_or_path: str | os.PathLike) -> Path:
    """Directory of a checkpoint, downloaded first where the name is a hub id.

    Raises:
        ValueError: No such directory, and no hub repository of that name could be fetched.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    name = str(name_or_path)
    if path.exists():
        raise ValueError(f"{name!r} is a file: give the directory that holds {CONFIG_NAME}")
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or name.endswith("/"):
        raise ValueError(
            f"encoder {name!r} is neither a directory nor a hub id such as 'qihoo360/fg-clip-base'"
        )
    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"encoder {name!r} is no local directory, and fetching it from the hub failed "
            f"({reason}): download it once and pass its directory"
        ) from error


def read_config(path: Path) -> dict:
    """Content of a JSON file of a checkpoint.

    Raises:
        ValueError: It is missing or is no JSON object.
    """
    if not path.exists():
        raise ValueError(f"{path.parent} holds no {path.name}: not a checkpoint directory")
    values = read_json(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds a {type(values).__name__}, not a JSON object")
    return values


def read_weights(directory: Path) -> dict[str, Tensor]:
    """All tensors of a single-file or sharded safetensors checkpoint, on the CPU.

    Raises:
        ValueError: A file is missing, truncated or of another kind.
    """
    index = directory / INDEX_NAME
    if (directory / WEIGHTS_NAME).is_file():
        shards = [WEIGHTS_NAME]
    elif index.is_file():
        shards = sorted(set(read_config(index).get("weight_map", {}).values()))
    else:
        raise ValueError(
            f"{directory} holds neither {WEIGHTS_NAME} nor {INDEX_NAME}: convert pickled weights "
            "to safetensors first"
        )
    weights: dict[str, Tensor] = {}
    for shard in shards:
        path = directory / shard
        if path.parent != directory:
            raise ValueError(f"{index} names the shard {shard!r} outside its own directory")
        try:
            weights.update(load_file(path))
        except FileNotFoundError:
            raise ValueError(f"{directory} lacks the shard {shard} that its index names") from None
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{path} cannot be read ({error}): truncated or not safetensors, copy it again"
            ) from None
    return weights


def load_strictly(module: nn.Module, weights: dict[str, Tensor], source: str | Path) -> None:
    """Copy `weights` into `module`, each parameter exactly once.

    Raises:
        ValueError: Lists every missing, unexpected and misshapen key.
    """
    own = module.state_dict()
    given = {k: v for k, v in weights.items() if not k.endswith(_DERIVED_SUFFIXES)}
    faults = [f"missing {key}" for key in own if key not in given]
    faults += [f"unexpected {key}" for key in given if key not in own]
    faults += [
        f"{key} is {tuple(given[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own
        if key in given and given[key].shape != own[key].shape
    ]
    if faults:
        raise ValueError(f"{source} does not fit its config: {'; '.join(faults)}")
    module.load_state_dict(given, strict=True)


def write_checkpoint(
    directory: Path, config: dict, weights: dict[str, Tensor], dtype: torch.dtype
) -> None:
    """Write ``config.json`` and ``model.safetensors``, the tensors stored in `dtype`."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().to("cpu", dtype).contiguous() for key, value in weights.items()}
    with replaced_file(directory / WEIGHTS_NAME) as partial:
        save_file(tensors, partial, metadata={"format": "pt"})
    write_json(directory / CONFIG_NAME, config, indent=2)


def fingerprint(config: dict, weights: dict[str, Tensor]) -> str:
    """16 hex digits that change with any size or weight of a model."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for key in sorted(weights):
        tensor = weights[key].detach().to("cpu", torch.float32).contiguous()
        digest.update(key.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]
