"""Files: one door for every kind, for reading and for writing. Knows neither torch nor mm*."""

from fgclip_det.io.atomic import (
    check_writable,
    disk_error,
    replaced_file,
    replaced_files,
    replaced_folder,
    replaced_text,
    write_bytes,
    write_json,
    write_text,
)
from fgclip_det.io.images import (
    MAX_PADDED_PIXELS,
    MAX_PIXELS,
    check_padded_size,
    decode_image,
    read_image,
    to_rgb,
    write_image,
)
from fgclip_det.io.json_arrays import JsonPiece, read_json_array
from fgclip_det.io.json_files import is_id, parse_json, read_json, read_json_lines, to_json
from fgclip_det.io.messages import listed, one_line, path_text, quoted
from fgclip_det.io.pickles import read_pickle
from fgclip_det.io.picture_headers import (
    PictureHeader,
    check_stored_size,
    read_header,
    undo_tiff_turn,
)
from fgclip_det.io.progress import bars_are_shown, without_bars
from fgclip_det.io.regular_files import open_regular, read_bytes, read_text, sha256_of
from fgclip_det.io.resumable_lines import ResumableLines
from fgclip_det.io.row_store import KEY_BYTES, RowStore
from fgclip_det.io.tensor_headers import TensorHeader, read_tensor_header

__all__ = [
    "KEY_BYTES",
    "MAX_PADDED_PIXELS",
    "MAX_PIXELS",
    "JsonPiece",
    "PictureHeader",
    "ResumableLines",
    "RowStore",
    "TensorHeader",
    "bars_are_shown",
    "check_padded_size",
    "check_stored_size",
    "check_writable",
    "decode_image",
    "disk_error",
    "is_id",
    "listed",
    "one_line",
    "open_regular",
    "parse_json",
    "path_text",
    "quoted",
    "read_bytes",
    "read_header",
    "read_image",
    "read_json",
    "read_json_array",
    "read_json_lines",
    "read_pickle",
    "read_tensor_header",
    "read_text",
    "replaced_file",
    "replaced_files",
    "replaced_folder",
    "replaced_text",
    "sha256_of",
    "to_json",
    "to_rgb",
    "undo_tiff_turn",
    "without_bars",
    "write_bytes",
    "write_image",
    "write_json",
    "write_text",
]
