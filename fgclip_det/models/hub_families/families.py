"""Which family a checkpoint belongs to, as its ``config.json`` says."""

from __future__ import annotations

from pathlib import Path

from fgclip_det.models.hub_families.family import HubFamily
from fgclip_det.models.hub_families.grounding_dino import GroundedQueries
from fgclip_det.models.hub_families.loading import Checkpoint, read_checkpoint
from fgclip_det.models.hub_families.owlv2 import Owlv2Objectness
from fgclip_det.models.hub_families.sigmoid_queries import SigmoidQueries

# By ``model_type``, the class of transformers that reads it.
FAMILIES: dict[str, str] = {
    "rt_detr": "RTDetrForObjectDetection",
    "rt_detr_v2": "RTDetrV2ForObjectDetection",
    "d_fine": "DFineForObjectDetection",
    "deimv2": "Deimv2ForObjectDetection",
    "lw_detr": "LwDetrForObjectDetection",
    "rf_detr": "RfDetrForObjectDetection",
    "owlv2": "Owlv2ForObjectDetection",
    "grounding-dino": "GroundingDinoForObjectDetection",
    "mm-grounding-dino": "MMGroundingDinoForObjectDetection",
}


def read_family(directory: Path, prompt: str | None = None) -> HubFamily:
    """The network of a checkpoint, on the CPU, in eval mode, without gradients.

    Args:
        directory: In the published layout.
        prompt: See `GroundedQueries`; for networks that need one, and for no other.

    Raises:
        ValueError: It is no such checkpoint, or broken, or needs a prompt, or reads none.
    """
    checkpoint = read_checkpoint(directory, FAMILIES)
    if _needs_prompt(checkpoint) != (prompt is not None):
        raise ValueError(
            f"a {checkpoint.model_type} finds what a text names: give its prompt, such as 'object.'"
            if prompt is None
            else f"prompt is {prompt!r}, but a {checkpoint.model_type} reads no text: leave it out"
        )
    if prompt is not None:
        family: HubFamily = GroundedQueries(directory, checkpoint, prompt)
    elif checkpoint.model_type == "owlv2":
        family = Owlv2Objectness(directory, checkpoint)
    else:
        family = SigmoidQueries(directory, checkpoint)
    return family.eval().requires_grad_(False)


def _needs_prompt(checkpoint: Checkpoint) -> bool:
    return checkpoint.model_type.endswith("grounding-dino")
