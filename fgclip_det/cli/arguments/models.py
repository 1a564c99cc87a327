"""What is typed behind ``fgclip-det models``."""

from __future__ import annotations

import argparse

_WHICH = "a preset (default, balanced, fast) or a hub id, perhaps with @REVISION"


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    models = commands.add_parser(
        "models",
        help="checkpoints of the Hugging Face hub: which are here, fetch them, fix their commits",
        description="Checkpoints of the Hugging Face hub, in its cache (HF_HOME moves it). What "
        "was fetched once is used without any request, at the commit that it had.",
    )
    actions = models.add_subparsers(dest="action", required=True)
    listed = actions.add_parser("list", help="what the presets need, and what is here; asks nobody")
    fetched = actions.add_parser("fetch", help="fetch what is missing, for use without a network")
    pinned = actions.add_parser("pin", help="ask the hub for the commits of now, and keep them")
    for parser, default in ((listed, "all"), (fetched, "default"), (pinned, "all")):
        what = f"{_WHICH} (default: {'all presets' if default == 'all' else 'the preset default'})"
        parser.add_argument("which", nargs="*", metavar="PRESET or ID", help=what)
