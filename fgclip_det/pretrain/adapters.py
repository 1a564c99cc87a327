"""Adapters of a pretrainer's encoder, as a config names them."""

from __future__ import annotations

import inspect
from typing import Any

from fgclip_det.encoders.adapters import add_lora
from fgclip_det.encoders.dual_encoder import DualEncoder
from fgclip_det.io import quoted

_KINDS = {"lora": add_lora}


def adapt(encoder: DualEncoder, adapters: dict[str, Any]) -> None:
    """Freeze an encoder but for the adapters of a config.

    Args:
        encoder: Of either generation; it is changed in place.
        adapters: ``type`` ("lora"), and the arguments of `add_lora` but the first two.

    Raises:
        ValueError: There is no such type or argument; see also `add_lora`.
    """
    arguments = dict(adapters)
    kind = arguments.pop("type", None)
    if kind not in _KINDS:
        raise ValueError(f"adapters.type is {quoted(kind)}: give one of {', '.join(_KINDS)}")
    add = _KINDS[kind]
    known = list(inspect.signature(add).parameters)[2:]
    unknown = [name for name in arguments if name not in known]
    if unknown:
        raise ValueError(f"adapters has {quoted(unknown[0])}: it takes {', '.join(known)}")
    add(encoder, encoder.fingerprint, **arguments)
