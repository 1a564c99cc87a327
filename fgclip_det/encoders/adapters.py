"""Low-rank adapters on both towers (LoRA, arXiv 2106.09685), by the library peft.

An adapted layer computes ``W x + alpha / rank * B A x`` with W frozen. The state of an adapted
encoder is what is trained and the fingerprint of the encoder below it, into which it can be merged.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

from fgclip_det.io import quoted

ADAPTED_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
# Name of the buffer with the fingerprint of the encoder below the adapters.
BASE_FINGERPRINT = "adapter_base"
_BLOCKS = r"(vision_model|text_model)\.encoder\.layers\.\d+\.\w+"
_BASE, _DOWN, _UP = ".base_layer.", ".lora_A.default.", ".lora_B.default."


def add_lora(
    encoder: nn.Module,
    base_fingerprint: str,
    rank: int = 16,
    alpha: float = 32.0,
    targets: Sequence[str] = ADAPTED_LAYERS,
    dropout: float = 0.0,
    trained: Sequence[str] = (),
) -> None:
    """Freeze an encoder but for adapters, which begin as adding nothing.

    From here on its ``state_dict`` holds the adapters, what `trained` names, and the fingerprint;
    it loads such a state alone, and one of the same encoder alone.

    Args:
        encoder: Of either generation, in float32. It is changed in place.
        base_fingerprint: Its ``fingerprint``, 16 hex digits.
        rank: Rows of each adapter's narrow middle.
        alpha: What an adapter adds is multiplied by ``alpha / rank``.
        targets: Which linear layers of the towers' blocks: of `ADAPTED_LAYERS`.
        dropout: Share of an adapter's inputs that training sets to zero.
        trained: How the names of parameters begin that are trained as they are, such as
            ``("visual_projection.", "logit_scale")``. Heads and scales are frozen unless named.

    Raises:
        ValueError: A value is out of range, a name fits nothing, the encoder is adapted already,
            or peft is not installed.
    """
    _check(encoder, rank, alpha, targets, dropout, trained)
    peft = _import_peft()
    layers = "|".join(re.escape(name) for name in targets)
    settings = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=rf"{_BLOCKS}\.({layers})",
    )
    peft.inject_adapter_in_model(settings, encoder)
    for name, parameter in encoder.named_parameters():
        if name.replace(_BASE, ".").startswith(tuple(trained)):
            parameter.requires_grad_(True)
    digits = torch.tensor(list(bytes.fromhex(base_fingerprint)), dtype=torch.uint8)
    encoder.register_buffer(BASE_FINGERPRINT, digits)
    encoder.register_state_dict_post_hook(_keep_trained)
    encoder.register_load_state_dict_pre_hook(_complete)


def merged_weights(encoder: nn.Module) -> dict[str, Tensor]:
    """The weights of an encoder, its adapters merged into its layers.

    Args:
        encoder: With adapters or without. Sharded parameters are gathered, for which each process
            has to call this.

    Returns:
        By the names of the encoder without adapters, detached.
    """
    if not hasattr(encoder, BASE_FINGERPRINT):
        return {name: _whole(tensor) for name, tensor in encoder.state_dict().items()}
    layers = cast("dict[str, Any]", dict(encoder.named_modules()))
    adapted = {name: layer for name, layer in layers.items() if hasattr(layer, "lora_A")}
    tensors = {name: _whole(tensor) for name, tensor in encoder.named_parameters()}
    merged = {}
    for name, tensor in tensors.items():
        if _DOWN in name or _UP in name:
            continue
        layer, found, part = name.partition(_BASE)
        if found and part == "weight":
            down, up = (tensors[f"{layer}{middle}weight"] for middle in (_DOWN, _UP))
            tensor = tensor + adapted[layer].scaling["default"] * (up @ down)
        merged[f"{layer}.{part}" if found else name] = tensor
    return merged


def _import_peft() -> ModuleType:
    try:
        return importlib.import_module("peft")
    except ImportError as error:
        raise ValueError(
            f"adapters of type 'lora' need the package peft ({error}): "
            'pip install "fgclip_det[lora]"'
        ) from None


def _check(
    encoder: nn.Module,
    rank: int,
    alpha: float,
    targets: Sequence[str],
    dropout: float,
    trained: Sequence[str],
) -> None:
    if hasattr(encoder, BASE_FINGERPRINT):
        raise ValueError("the encoder has adapters already: add them once")
    if type(rank) is not int or rank < 1:
        raise ValueError(f"adapters.rank is {quoted(rank)}: give a whole number from 1")
    if not isinstance(alpha, int | float) or not 0 < alpha < float("inf"):
        raise ValueError(f"adapters.alpha is {quoted(alpha)}: give a number above 0")
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ValueError(f"adapters.dropout is {quoted(dropout)}: give a share from 0, below 1")
    unknown = [name for name in targets if name not in ADAPTED_LAYERS]
    if isinstance(targets, str) or not targets or unknown:
        raise ValueError(
            f"adapters.targets is {quoted(targets)}: give a list of some of {ADAPTED_LAYERS}"
        )
    if isinstance(trained, str):
        raise ValueError(f"adapters.trained is the string {quoted(trained)}: give a list")
    names = [name for name, _ in encoder.named_parameters()]
    for beginning in trained:
        if not beginning or not any(name.startswith(beginning) for name in names):
            raise ValueError(
                f"adapters.trained: no parameter of the encoder begins with {quoted(beginning)}"
            )


def _whole(tensor: Tensor) -> Tensor:
    # Of a DTensor, whose module is costly to import.
    gather = getattr(tensor, "full_tensor", None)
    return (gather() if gather else tensor).detach()


def _kept(encoder: nn.Module) -> set[str]:
    trained = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    return {*trained, BASE_FINGERPRINT}


def _keep_trained(encoder: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    kept = {prefix + name for name in _kept(encoder)}
    for key in [key for key in state if key.startswith(prefix) and key not in kept]:
        del state[key]


def _complete(encoder: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Add what is frozen to a state that is about to be loaded."""
    given, own = state.get(prefix + BASE_FINGERPRINT), getattr(encoder, BASE_FINGERPRINT)
    if not isinstance(given, Tensor):
        raise ValueError(
            "the checkpoint holds no adapters: name it as `encoder` if it is an encoder, or leave "
            "`adapters` out of the config to go on without them"
        )
    if not torch.equal(given.cpu(), own.cpu()):
        raise ValueError(
            f"the adapters of the checkpoint belong to the encoder {_hex(given)}, and this one is "
            f"{_hex(own)}: name the encoder that they were trained on"
        )
    kept = _kept(encoder)
    for name, parameter in encoder.named_parameters():
        if name not in kept:
            state[prefix + name] = parameter.detach()


def _hex(fingerprint: Tensor) -> str:
    return bytes(fingerprint.tolist()).hex()
