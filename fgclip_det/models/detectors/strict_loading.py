"""Weights that do not fit a detector are refused, whoever loads them."""

from __future__ import annotations

from torch import nn

from fgclip_det.io import listed


class StrictLoading:
    """Mixed into a module, before its other bases.

    MMEngine only logs what does not fit, and goes on with random weights. Here, each loader ends in
    a ValueError that lists the missing, unexpected and misshapen keys.
    """

    def _init_strict_loading(self) -> None:
        """To be called by the constructor."""
        self._load_faults: list[list[str]] | None = None
        self.register_load_state_dict_post_hook(_raise_load_faults)

    def _load_from_state_dict(
        self,
        state_dict: dict,
        prefix: str,
        local_metadata: dict,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        self._load_faults = [missing_keys, unexpected_keys, error_msgs] if strict else None
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )


def _raise_load_faults(module: nn.Module, incompatible_keys) -> None:
    faults, module._load_faults = module._load_faults, None
    if faults is None:
        return
    missing = [key for key in faults[0] if not key.endswith("num_batches_tracked")]
    # The misshapen first: they are the fewest, and tell most.
    told = faults[2] + [f"missing {key}" for key in missing]
    told += [f"unexpected {key}" for key in faults[1]]
    if told:
        raise ValueError(
            "the weights do not fit the detector: "
            f"{listed(told, 'unfitting weights', '; ')}: give a checkpoint that was trained with "
            "this config"
        )
