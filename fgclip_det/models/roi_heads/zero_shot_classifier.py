"""Softmax over cosines with text embeddings and a background embedding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from fgclip_det.models.roi_heads.settings import check_bool, check_count, check_temperature
from fgclip_det.models.roi_heads.unit_rows import UnitRows


@MODELS.register_module()
class ZeroShotClassifier(BaseModule):
    """Probabilities of categories that are named in each call.

    Args:
        embed_dim: Size of the embeddings.
        temperature: What cosines are multiplied by before the softmax (its start where learned).
        learned: Whether the temperature and the background embedding are trained. A temperature
            that is not learned is a setting, so no checkpoint overrides it.

    Raises:
        ValueError: A setting is out of range.
    """

    def __init__(
        self,
        embed_dim: int,
        temperature: float = 50.0,
        learned: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_temperature("temperature", temperature)
        check_count("embed_dim", embed_dim)
        check_bool("learned", learned)
        background = torch.zeros(embed_dim)
        background[0] = 1.0
        if learned:
            # As the logarithm of a factor: no step of the optimizer makes the temperature
            # negative, and weight decay pulls it to where it started, not to 0 or 1.
            self.register_buffer("start_temperature", torch.tensor(float(temperature)))
            self.log_temperature_gain = nn.Parameter(torch.zeros(()))
            self.background_embedding = nn.Parameter(background)
        else:
            self.fixed_temperature = float(temperature)
            self.register_buffer("background_embedding", background)
        self.learned = learned
        self._unit_rows = UnitRows()

    @property
    def temperature(self) -> Tensor | float:
        """Factor of the cosines."""
        if not self.learned:
            return self.fixed_temperature
        return self.start_temperature.float() * self.log_temperature_gain.float().exp()

    @torch.no_grad()
    def set_background(self, embedding: Tensor) -> None:
        """Start the background embedding from (D,), the embedding of a text for it."""
        self.background_embedding.copy_(embedding.reshape(-1))

    def forward(self, embeddings: Tensor, text_embeddings: Tensor) -> Tensor:
        """Logits of regions.

        Args:
            embeddings: (K, D), of any length each.
            text_embeddings: (C, D), of any length each.

        Returns:
            (K, C + 1) float32; the last column is the background.

        Raises:
            ValueError: The two differ in D.
        """
        regions, directions = self.factors(embeddings, text_embeddings)
        with torch.autocast(regions.device.type, enabled=False):
            return regions @ directions.T

    def factors(self, embeddings: Tensor, text_embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Whose products the logits are; arguments and errors as of `forward`.

        Returns:
            (K, D) and (C + 1, D) float32, the background last; the latter not to be written into,
            while the next call may.
        """
        background = self.background_embedding
        _check_dims(background.numel(), embeddings, text_embeddings)
        directions = self._unit_rows(text_embeddings.to(background.device), background)
        return scaled(embeddings, self.temperature), directions

    def probabilities(self, embeddings: Tensor, text_embeddings: Tensor) -> Tensor:
        """Softmax of `forward` without its last column: (K, C) float32, rows sum to less than 1."""
        return self(embeddings, text_embeddings).softmax(dim=-1)[:, :-1]


def cosines(embeddings: Tensor, directions: Tensor, temperature: Tensor | float) -> Tensor:
    """Cosines times a temperature.

    Args:
        embeddings: (K, D), of any length each.
        directions: (C, D) float32 of unit length, of `UnitRows`.
        temperature: What cosines are multiplied by.

    Returns:
        (K, C) float32, also under autocast.

    Raises:
        ValueError: The two differ in D.
    """
    _check_dims(embeddings.shape[-1], embeddings, directions)
    with torch.autocast(embeddings.device.type, enabled=False):
        return scaled(embeddings, temperature) @ directions.T


def scaled(embeddings: Tensor, temperature: Tensor | float) -> Tensor:
    """(K, D) float32 of the length `temperature` each, also under autocast."""
    with torch.autocast(embeddings.device.type, enabled=False):
        # On the few embeddings, not on the cosines with thousands of texts.
        return F.normalize(embeddings.float(), dim=-1) * temperature


def _check_dims(dim: int, embeddings: Tensor, text_embeddings: Tensor) -> None:
    if embeddings.shape[-1] != dim or text_embeddings.shape[-1] != dim:
        raise ValueError(
            f"embeddings of {embeddings.shape[-1]} and text embeddings of "
            f"{text_embeddings.shape[-1]} values for a classifier of {dim}: encode the texts "
            "with the detector's own encoder"
        )
