"""Reading checkpoints without running code that they carry, on every supported torch."""

import importlib
import importlib.util
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from . import safe_pickle

_REFUSED_NAME = re.compile(r"GLOBAL (\S+)")
_SAFETENSORS_SUFFIX = ".safetensors"


def load_checkpoint_file(
    path: str | Path,
    map_location: str | torch.device | dict | Callable | None = "cpu",
) -> dict[str, Any]:
    """Read a checkpoint from disk; nothing in the file is ever executed.

    Args:
        path: `.pth` or `.pt` as torch, mmengine or mmdet save them, or `.safetensors`.
        map_location: where tensors go, as for `torch.load`.

    Returns:
        A dict with at least `state_dict`, a mapping from parameter names to tensors. Bare state
        dicts and those stored as `model` are given under `state_dict` too.

    Raises:
        ValueError: the file is missing, empty, truncated, not a checkpoint, holds no weights, or
            is a pickle that would run code; one line that names the file and the mend.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"checkpoint {file} does not exist; check the path")
    if file.stat().st_size == 0:
        raise ValueError(f"checkpoint {file} is empty; download or save it again")
    if file.suffix == _SAFETENSORS_SUFFIX:
        return {"state_dict": _read_safetensors(file, map_location), "meta": {}}
    return _with_state_dict(safe_pickle.to_plain_numpy(_read_pickle(file, map_location)), file)


def _read_safetensors(file: Path, map_location: Any) -> dict[str, Tensor]:
    try:
        tensors = safetensors.torch.load_file(file)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"checkpoint {file} is truncated or not a safetensors file ({_one_line(error)}); "
            "download or save it again"
        ) from error
    if isinstance(map_location, (str, torch.device)):
        return {name: tensor.to(map_location) for name, tensor in tensors.items()}
    return tensors


def _read_pickle(file: Path, map_location: Any) -> Any:
    try:
        return torch.load(file, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(_explain_refusal(file, error)) from error
    except OSError as error:
        raise ValueError(f"checkpoint {file} cannot be read: {error.strerror or error}") from error
    except (RuntimeError, EOFError, LookupError, TypeError, ValueError) as error:
        if "TorchScript" in str(error):
            raise ValueError(
                f"checkpoint {file} is a TorchScript program, which would run code, and is refused;"
                " save its state_dict instead"
            ) from error
        if "CUDA" in str(error):
            raise ValueError(
                f"checkpoint {file} cannot be put on {map_location!r}: {_one_line(error)}; use a "
                "device that this machine has"
            ) from error
        raise ValueError(
            f"checkpoint {file} is truncated or not a PyTorch checkpoint ({_one_line(error)}); "
            "download or save it again"
        ) from error


def _explain_refusal(file: Path, error: Exception) -> str:
    name = _REFUSED_NAME.search(str(error))
    if name:
        return (
            f"checkpoint {file} is refused: loading it would run {name.group(1)!r}, which is not "
            "on the allow-list of weights and logs, and nothing was run; convert it to "
            ".safetensors where you trust it"
        )
    # torch wraps the reader's own message in a page of advice to switch the check off.
    detail = str(error).partition("WeightsUnpickler error:")[2] or str(error)
    return (
        f"checkpoint {file} is refused: it is not a file of plain weights and logs "
        f"({_one_line(detail)}); use a .pth that torch.save wrote or a .safetensors file"
    )


def _one_line(text: object) -> str:
    lines = str(text).strip().splitlines()
    return lines[0].strip()[:120] if lines else type(text).__name__


def _is_state_dict(value: object) -> bool:
    return isinstance(value, Mapping) and any(isinstance(item, Tensor) for item in value.values())


def _with_state_dict(checkpoint: Any, file: Path) -> dict[str, Any]:
    if isinstance(checkpoint, dict):
        if isinstance(checkpoint.get("state_dict"), Mapping):
            return checkpoint
        if _is_state_dict(checkpoint.get("model")):
            checkpoint["state_dict"] = checkpoint["model"]
            return checkpoint
        if _is_state_dict(checkpoint):
            return {"state_dict": checkpoint, "meta": {}}
        found = f"a dict with keys {sorted(map(str, checkpoint))[:8]}"
    else:
        found = f"a {type(checkpoint).__name__}"
    raise ValueError(
        f"checkpoint {file} is of the wrong kind: it holds {found} and no 'state_dict'; give the "
        ".pth that tools/train.py wrote"
    )


def load_from_local(
    filename: str, map_location: str | torch.device | dict | Callable | None = None
) -> dict[str, Any]:
    """mmengine's loader for plain paths; its log prints this name from the tenth letter on."""
    return load_checkpoint_file(filename, map_location)


def install() -> None:
    """Register the allow-list, and our reader as mmengine's loader of local files."""
    safe_pickle.register()
    if importlib.util.find_spec("mmengine") is None:
        return
    loader = importlib.import_module("mmengine.runner.checkpoint").CheckpointLoader
    loader.register_scheme(prefixes="", loader=load_from_local, force=True)
