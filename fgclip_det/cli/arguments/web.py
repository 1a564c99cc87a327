"""What is typed behind ``fgclip-det web``."""

from __future__ import annotations

import argparse

from fgclip_det.cli.arguments.common import (
    add_calibration,
    add_device_arguments,
    add_weights,
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    web = commands.add_parser(
        "web",
        help="a page in the browser that answers while you type",
        description="Serve a page on which pictures are asked in words, or by examples, and answer "
        "while you type. Without pictures and model it shows the bundled ones.",
    )
    web.add_argument("images", nargs="*", metavar="PICTURE", help="pictures or folders")
    web.add_argument(
        "--model", metavar="CONFIG", help="config of a detector, or photos (default: bundled)"
    )
    add_weights(web)
    add_device_arguments(web)
    add_calibration(web)
    web.add_argument(
        "--host",
        default="127.0.0.1",
        help="where to listen; others than this machine need the token that is printed then "
        "(default: 127.0.0.1)",
    )
    web.add_argument("--port", type=int, default=8080, help="0 for any (default: 8080)")
    web.add_argument("--no-browser", action="store_true", help="do not open a browser")
