"""Reading checkpoints without running code that they carry, on every supported torch."""

import importlib
import importlib.util
import os
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from fgclip_det.io import listed, one_line, open_regular, quoted, read_tensor_header
from fgclip_det.ops.finite import check_finite

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
        ValueError: the file is missing, empty, truncated, not a checkpoint, holds no weights or
            weights that are not finite, or is a pickle that would run code; one line that names the
            file and the mend.
    """
    file = Path(os.path.expanduser(path))
    where = f"checkpoint {str(file)!r}"
    if not os.path.lexists(file):
        raise ValueError(f"{where} does not exist; check the path")
    with open_regular(file, "checkpoint") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size == 0:
            raise ValueError(f"{where} is empty; download or save it again")
        safe_pickle.check_packing(stream, size, where)
    if file.suffix == _SAFETENSORS_SUFFIX:
        read_tensor_header(file, "checkpoint")
        checkpoint = {"state_dict": _read_safetensors(file, where, map_location), "meta": {}}
    else:
        try:
            content = safe_pickle.to_plain_numpy(_read_pickle(file, where, map_location))
        except RecursionError:
            raise ValueError(
                f"{where} is refused: its content is nested too deep; save it again"
            ) from None
        checkpoint = _with_state_dict(content, where)
        _check_names(checkpoint["state_dict"], where)
    weights = checkpoint["state_dict"]
    check_finite({key: v for key, v in weights.items() if isinstance(v, Tensor)}, where)
    return checkpoint


def _check_names(weights: Mapping[Any, Any], where: str) -> None:
    strange = [quoted(key) for key in weights if not isinstance(key, str)]
    if strange or not weights:
        raise ValueError(
            f"{where} is of the wrong kind: its 'state_dict' must hold tensors by their names, and "
            f"holds {listed(strange, 'keys that are no names') or 'nothing'}"
        )


def _read_safetensors(file: Path, where: str, map_location: Any) -> dict[str, Tensor]:
    try:
        tensors = safetensors.torch.load_file(file)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"{where} is truncated or not a safetensors file ({one_line(error)}); "
            "download or save it again"
        ) from error
    if isinstance(map_location, (str, torch.device)):
        return {name: tensor.to(map_location) for name, tensor in tensors.items()}
    return tensors


def _read_pickle(file: Path, where: str, map_location: Any) -> Any:
    try:
        return torch.load(file, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(_explain_refusal(where, error)) from error
    except OSError as error:
        raise ValueError(f"{where} cannot be read: {error.strerror or error}") from error
    except (RuntimeError, EOFError, LookupError, TypeError, ValueError) as error:
        if "TorchScript" in str(error):
            raise ValueError(
                f"{where} is a TorchScript program, which would run code, and is refused;"
                " save its state_dict instead"
            ) from error
        if "CUDA" in str(error):
            raise ValueError(
                f"{where} cannot be put on {map_location!r}: {one_line(error)}; use a "
                "device that this machine has"
            ) from error
        raise ValueError(
            f"{where} is truncated or not a PyTorch checkpoint ({one_line(error)}); "
            "download or save it again"
        ) from error


def _explain_refusal(where: str, error: Exception) -> str:
    name = _REFUSED_NAME.search(str(error))
    if name:
        return (
            f"{where} is refused: loading it would run {quoted(name.group(1))}, which is not "
            "on the allow-list of weights and logs, and nothing was run; convert it to "
            ".safetensors where you trust it"
        )
    # torch wraps the reader's own message in a page of advice to switch the check off.
    detail = str(error).partition("WeightsUnpickler error:")[2] or str(error)
    return (
        f"{where} is refused: it is not a file of plain weights and logs "
        f"({one_line(detail)}); use a .pth that torch.save wrote or a .safetensors file"
    )


def _is_state_dict(value: object) -> bool:
    return isinstance(value, Mapping) and any(isinstance(item, Tensor) for item in value.values())


def _with_state_dict(checkpoint: Any, where: str) -> dict[str, Any]:
    if isinstance(checkpoint, dict):
        if isinstance(checkpoint.get("state_dict"), Mapping):
            return checkpoint
        if _is_state_dict(checkpoint.get("model")):
            checkpoint["state_dict"] = checkpoint["model"]
            return checkpoint
        if _is_state_dict(checkpoint):
            return {"state_dict": checkpoint, "meta": {}}
        found = f"a dict with the keys {listed(sorted(map(quoted, checkpoint)), 'keys')}"
    else:
        found = f"a {type(checkpoint).__name__}"
    raise ValueError(
        f"{where} is of the wrong kind: it holds {found} and no 'state_dict'; give the "
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
