"""Label files, in the formats of trainers and of tools for annotating."""

from fgclip_det.apis.labelling.formats.registry import (
    FORMATS,
    check_files,
    check_names,
    write_labels,
)

__all__ = ["FORMATS", "check_files", "check_names", "write_labels"]
