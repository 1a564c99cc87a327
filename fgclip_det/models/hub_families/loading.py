"""A checkpoint of the hub read by transformers' own class: all of it, in silence, and no code."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import nn
from transformers.utils import logging

from fgclip_det.encoders.pretrained import CONFIG_NAME, read_config, stored_shapes
from fgclip_det.io import listed, one_line, quoted
from fgclip_det.ops.finite import check_finite

# Two names of one file: processors of pictures and texts in one write the second.
_PROCESSOR_NAMES = ("preprocessor_config.json", "processor_config.json")
_IS_5 = int(transformers.__version__.split(".")[0]) >= 5
# Buffers that hold nothing that the sizes do not say; some releases store them.
_DERIVED = (".position_ids", ".num_batches_tracked")
# No published number of a config that is no side of a tensor is above it; ids of texts apart.
_LARGEST = 10_000
_IDS = ("_id", "_ids", "2label", "2id")
_COUNTS = ("layers", "depths", "blocks")


class Checkpoint(NamedTuple):
    """What ``config.json`` says.

    Attributes:
        model_type: The family.
        network: transformers' class of it.
        config: The file's content.
    """

    model_type: str
    network: type
    config: dict[str, Any]


def read_checkpoint(directory: Path, families: Mapping[str, str]) -> Checkpoint:
    """Find out which network a checkpoint is of.

    Args:
        directory: Of the checkpoint.
        families: Names of transformers' classes, by ``model_type``.

    Raises:
        ValueError: It is of none of `families`, or of one that the installed transformers lacks.
    """
    config = read_config(directory / CONFIG_NAME)
    where, kind = repr(str(directory)), config.get("model_type")
    if not isinstance(kind, str) or kind not in families:
        if "auto_map" in config:
            raise ValueError(
                f"{where} is a {quoted(kind)} with code of its own, which is never run: give a "
                f"detector of {', '.join(families)}"
            )
        raise ValueError(
            f"{where} is a {quoted(kind)}, no detector that is known: give one of "
            f"{', '.join(families)}"
        )
    network = getattr(transformers, families[kind], None)
    if network is None:
        raise ValueError(
            f"{where} is a {kind}, which transformers {transformers.__version__} does not know: "
            "it needs transformers 5, pip install 'transformers>=5'"
        )
    return Checkpoint(kind, network, config)


def read_network(
    directory: Path, checkpoint: Checkpoint, changes: Mapping[str, Any] | None = None
) -> nn.Module:
    """A network with the weights of a checkpoint, each of them and no other.

    Args:
        directory: In the published layout.
        checkpoint: From `read_checkpoint`.
        changes: Entries of the config that are to be others.

    Returns:
        In float32 on the CPU, in eval mode.

    Raises:
        ValueError: The weights are missing, truncated, pickled, not finite, or do not fit the
            config; or it needs a package that is not installed.
    """
    where = repr(str(directory))
    stored = stored_shapes(directory)  # transformers says less of files that are missing or cut off
    _check_sizes(checkpoint.config, stored, where)
    with _translated(where, f"be built as a {checkpoint.model_type}"), quiet():
        config = checkpoint.network.config_class.from_pretrained(directory, local_files_only=True)
        for key, value in (changes or {}).items():
            setattr(config, key, value)
        if getattr(config, "use_pretrained_backbone", False):
            config.use_pretrained_backbone = False  # its weights are in the checkpoint
        network, told = checkpoint.network.from_pretrained(
            directory,
            config=config,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # all are listed below, not the first alone
            output_loading_info=True,
        )
    _check_whole(network, told, stored, where)
    check_finite(network.state_dict(), where)
    return network.eval()


def read_processor(directory: Path) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What turns (3, H, W) uint8 pixels on the CPU into a network's input, and its settings.

    Raises:
        ValueError: There is none, or it cannot be read.
    """
    where = repr(str(directory))
    present = [name for name in _PROCESSOR_NAMES if (directory / name).is_file()]
    if not present:
        raise ValueError(
            f"{where} holds no {_PROCESSOR_NAMES[0]}, which says how pictures are resized: copy "
            "it from where the weights are from"
        )
    settings = read_config(directory / present[0])
    # Deprecated in 5, and the default there.
    fast = {} if _IS_5 else {"use_fast": True}
    with _translated(where, "give a processor of pictures"), quiet():
        processor = transformers.AutoImageProcessor.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False, **fast
        )
    # Of a picture three pixels wide, its channels could be guessed to be anywhere.
    call = functools.partial(processor, return_tensors="pt", input_data_format="channels_first")
    return call, settings


def read_tokenizer(directory: Path) -> Callable[[str], Any]:
    """What turns a text into tensors of one row.

    Raises:
        ValueError: There is none, or it cannot be read.
    """
    where = repr(str(directory))
    with _translated(where, "give a tokenizer"), quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )
    return functools.partial(tokenizer, return_tensors="pt", return_token_type_ids=True)


def _check_sizes(
    config: Mapping[str, Any], stored: Mapping[str, tuple[int, ...]], where: str
) -> None:
    """Refuse sizes that no tensor has, before memory is asked for anything of them."""
    longest = max((side for shape in stored.values() for side in shape), default=0)
    for name, value in _whole_numbers(config):
        if name.endswith(_COUNTS) and value > len(stored):
            held = f"holds {len(stored)} tensors"
        elif value > max(longest, _LARGEST):
            held = f"holds no tensor with a side of more than {longest}"
        else:
            continue
        raise ValueError(
            f"{quoted(name)} of {where} is {quoted(value)}, but it {held}: copy weights and config "
            "from one place"
        )


def _whole_numbers(value: Any, name: str = "") -> Iterator[tuple[str, int]]:
    """Each whole number of a config, under the key that it, or its list, has."""
    if type(value) is int:
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if not key.endswith(_IDS):
                yield from _whole_numbers(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _whole_numbers(inner, name)


def _check_whole(
    network: nn.Module,
    told: Mapping[str, Collection],
    stored: Mapping[str, tuple[int, ...]],
    where: str,
) -> None:
    """Refuse a network that was not given each of its weights, as transformers tells."""
    own = network.state_dict()
    faults = []
    for entry in sorted(told.get("mismatched_keys") or ()):
        # 4.57 tells names, 5 tells shapes too, under names that it may have changed.
        key, *shapes = (entry,) if isinstance(entry, str) else entry
        given = shapes[0] if shapes else stored.get(key, "of another shape")
        faults.append(
            f"{key} is {given}, expected {tuple(own[key].shape)}".replace("torch.Size", "")
        )
    for kind in ("missing", "unexpected"):
        keys = sorted(told.get(f"{kind}_keys") or ())
        faults += [f"{kind} {key}" for key in keys if not key.endswith(_DERIVED)]
    faults += [one_line(message) for message in told.get("error_msgs") or ()]
    if faults:
        raise ValueError(
            f"{where} does not fit its config: {listed(faults, 'unfitting weights', '; ')}: copy "
            "weights and config from one place"
        )


@contextlib.contextmanager
def _translated(where: str, aim: str) -> Iterator[None]:
    """Errors of transformers, of many kinds, as one line."""
    try:
        yield
    except MemoryError:
        raise
    except ImportError as error:
        raise ValueError(
            f"{where} cannot {aim} without a package ({one_line(error)}): install it"
        ) from error
    except Exception as error:
        # Nothing here is ours: what is raised differs from release to release.
        if isinstance(error, RuntimeError) and "not enough memory" in str(error):
            raise
        raise ValueError(
            f"{where} cannot {aim} ({type(error).__name__}: {one_line(error)}): its files are "
            "broken or of another kind; copy them again, or name another checkpoint"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without log lines and bars of transformers, whose settings are then as they were."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
