"""MMEngine hooks of this package."""

from fgclip_det import compat  # noqa: F401  (first: mends what the next imports need)
from fgclip_det.engine.export_encoder_hook import ExportEncoderHook

__all__ = ["ExportEncoderHook"]
