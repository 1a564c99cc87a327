"""What is shown behind a command instead of said: ``--like``, ``--not-like`` and ``--name``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fgclip_det.vocabulary import Vocabulary


class _InOrder(argparse.Action):
    """Collects (option, value) of several options in the order in which they are typed."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, [*before, (self.option_strings[0], values)])


def add_exemplars(command: argparse.ArgumentParser) -> None:
    """What is shown instead of said."""
    kind: dict[str, Any] = {"action": _InOrder, "dest": "shown", "default": []}
    command.add_argument(
        "--like",
        metavar="EXEMPLAR",
        **kind,
        help="look for what this shows: a crop, picture.jpg:x1,y1,x2,y2 in pixels, or "
        "regions.safetensors:row; several times for more of it",
    )
    command.add_argument(
        "--not-like", metavar="EXEMPLAR", **kind, help="tell it apart from what this shows"
    )
    command.add_argument(
        "--name",
        **kind,
        help="what --like and --not-like before it are called, or which text they belong to "
        "(default: shown, or the only text)",
    )


def with_shown(said: Vocabulary | None, given: Sequence[tuple[str, str]]) -> Vocabulary:
    """A vocabulary with what is shown of it.

    Args:
        said: What is looked for in words; None for nothing.
        given: ("--like", "--not-like" or "--name", value) as they were typed; one at least.

    Raises:
        ValueError: It is not clear what is shown of which name, or an exemplar is none.
    """
    from fgclip_det.vocabulary import Vocabulary

    told = {"names": {}} if said is None else said.to_dict()
    entries = {
        name: dict(one) if isinstance(one, dict) else {"prompts": one}
        for name, one in told["names"].items()
    }
    if given[-1][0] != "--name":
        given = [*given, ("--name", _meant(entries, given))]
    group: dict[str, list[str]] = {}
    for option, value in given:
        if option != "--name":
            group.setdefault(option[2:].replace("-", "_"), []).append(value)
            continue
        if not group:
            raise ValueError(f"--name {value} has neither --like nor --not-like before it")
        entry = entries.setdefault(value, {})
        for key, own in group.items():
            entry[key] = [*entry.get(key, ()), *own]
        group = {}
    return Vocabulary.parse({**told, "names": entries})


def _meant(entries: dict[str, Any], given: Sequence[tuple[str, str]]) -> str:
    """The name of what the last options show, which have none behind them."""
    from fgclip_det.vocabulary.parsing import UNNAMED

    if len(entries) == 1:
        return next(iter(entries))
    group = []
    for option, _ in reversed(given):
        if option == "--name":
            break
        group.append(option)
    if entries or "--like" not in group:
        option, value = given[-1]
        raise ValueError(
            f"{option} {value}: of which name is this? {len(entries)} are asked for; say it with "
            "--name behind it"
        )
    return UNNAMED
