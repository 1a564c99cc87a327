"""Is it there? A detector asked for one name at a time, and what that comes to."""

from fgclip_det.apis.presence.diagram import check_diagram, write_diagram
from fgclip_det.apis.presence.run import VALUES, evaluate_presence

__all__ = ["VALUES", "check_diagram", "evaluate_presence", "write_diagram"]
