"""Networks of the Hugging Face hub that find boxes without words, each read as it was published."""

from fgclip_det.models.hub_families.families import FAMILIES, read_family
from fgclip_det.models.hub_families.family import HubFamily

__all__ = ["FAMILIES", "HubFamily", "read_family"]
