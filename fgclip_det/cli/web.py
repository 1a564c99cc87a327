"""``fgclip-det web``: a page that answers while its user types."""

from __future__ import annotations

import argparse
import os

from fgclip_det.io import path_text
from fgclip_det.web.address import Address
from fgclip_det.web.engine import Engine
from fgclip_det.web.server import serve
from fgclip_det.web.snippets import Model


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C; returns the exit code.

    Raises:
        ValueError: An argument is wrong; nothing listens then.
    """
    # All else about pictures is found out behind the page: it needs what takes long to import.
    for path in arguments.images:
        if not os.path.exists(path):
            raise ValueError(f"no picture at {path_text(path)!r}: check the path")
    # Whoever brings a model is not shown the bundled one's pictures.
    pictures = arguments.images or (None if arguments.model is None else [])
    calibration = None if arguments.calibration == "none" else arguments.calibration
    model = Model(
        arguments.model, arguments.weights, arguments.encoder, arguments.device, calibration
    )
    address = Address.bind(arguments.host, arguments.port)
    return serve(address, Engine(model, pictures), not arguments.no_browser)
