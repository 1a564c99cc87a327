"""Sizes in a config: what they may be, and whether weights of such sizes are there at all."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from fgclip_det.encoders.activations import is_activation
from fgclip_det.io import quoted

_Config = TypeVar("_Config")

# Any table of two such sizes still has a size of 64 bits.
_LIMIT = 2**31
# The least that float32 does not take for 0; beyond 1 nothing of what is normalised is left.
_EPS_RANGE = (1.2e-38, 1.0)
# exp of either is still a number of float32.
_LOGIT_RANGE = (-80.0, 80.0)
_MAY_BE_ZERO = ("eos_token_id", "keep_len")
# Not the side of any tensor, or one that is derived where plain weights are completed.
_NO_SIDES = ("num_hidden_layers", "image_size", "eos_token_id", "keep_len", "longtext_len")
_FEW_BLOCKS = 100


def check_sizes(config: Any) -> None:
    """Make sure that each field of a dataclass is what a model can be built with.

    Args:
        config: Of fields declared int (a size), float (a constant) or str (an activation); others
            are passed over.

    Raises:
        ValueError: One is not; names it.
    """
    owner = type(config).__name__
    for field in fields(config):
        value = getattr(config, field.name)
        if field.type == "int":
            check_whole(value, field.name, owner, least=int(field.name not in _MAY_BE_ZERO))
        elif field.type == "float":
            low, high = _EPS_RANGE if field.name.endswith("_eps") else _LOGIT_RANGE
            # NaN is in no range.
            if type(value) not in (int, float) or not low <= value <= high:
                raise ValueError(
                    f"{field.name} of {owner} is {quoted(value)}, no number from {low} to {high}"
                )
        elif field.type == "str" and not is_activation(value):
            raise ValueError(f"unknown {field.name} {quoted(value)} in {owner}")
    if hasattr(config, "num_attention_heads") and config.hidden_size % config.num_attention_heads:
        raise ValueError(
            f"hidden_size {config.hidden_size} is not a multiple of "
            f"num_attention_heads {config.num_attention_heads}"
        )


def check_whole(value: Any, name: str, owner: str, least: int = 1) -> int:
    """A size that is one.

    Raises:
        ValueError: It is no whole number, below `least` or of more than 31 bits.
    """
    if type(value) is not int:
        raise ValueError(f"{name} of {owner} is {quoted(value)}, not a whole number")
    if not least <= value < _LIMIT:
        raise ValueError(f"{name} of {owner} is {quoted(value)}: it must be {least} to {_LIMIT}")
    return value


def pick_sizes(config_class: type[_Config], values: Mapping[str, Any]) -> _Config:
    """A dataclass of sizes from the keys of a published config that it has fields for.

    Raises:
        ValueError: A value is none that a model can be built with.
    """
    known = {f.name for f in fields(config_class)}  # type: ignore[arg-type]
    return config_class(**{key: value for key, value in values.items() if key in known})


def check_stored(config: Any, shapes: Mapping[str, Collection[int]], source: str) -> None:
    """Refuse sizes that no tensor of the weights has, before anything of them is built.

    Args:
        config: With ``vision``, ``text`` and ``projection_dim``.
        shapes: Shape of each tensor of the weights.
        source: Whose they are, for messages.

    Raises:
        ValueError: A size is larger than any side of any tensor, or there are fewer blocks.
    """
    longest = max((side for shape in shapes.values() for side in shape), default=0)
    sides = {"projection_dim": config.projection_dim}
    for name, part in (("vision", config.vision), ("text", config.text)):
        own = {key: v for key, v in vars(part).items() if type(v) is int and key not in _NO_SIDES}
        sides |= {f"{key} of {type(part).__name__}": value for key, value in own.items()}
        prefix = f"{name}_model.encoder.layers."
        blocks = {key[len(prefix) :].split(".")[0] for key in shapes if key.startswith(prefix)}
        if part.num_hidden_layers > max(len(blocks), _FEW_BLOCKS):
            raise ValueError(
                f"num_hidden_layers of {type(part).__name__} is {part.num_hidden_layers}, but "
                f"{source} holds {len(blocks)} blocks: config and weights are of different models"
            )
    sides["image_size, in patches squared,"] = math.prod(config.vision.grid)
    for name, value in sides.items():
        if value > longest:
            raise ValueError(
                f"{name} is {value}, but no tensor of {source} has a side of more than {longest}: "
                "config and weights are of different models"
            )
