"""``fgclip-det models``: checkpoints of the hub, fetched and kept at their commits."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from fgclip_det import hub
from fgclip_det.apis.presets import PRESETS, Part, preset_parts
from fgclip_det.exit_codes import EXIT_PARTLY_DONE, say, say_error


def run(arguments: argparse.Namespace) -> int:
    """List, fetch or pin; returns the exit code.

    Raises:
        ValueError: Nothing was done: a name is none, or the hub cannot be reached or refuses.
    """
    act = {"list": _list, "fetch": _fetch, "pin": _pin}[arguments.action]
    presets = PRESETS[:1] if arguments.action == "fetch" else PRESETS
    code = _for_each(_parts(arguments.which or presets), act)
    say(f"the cache is {str(hub.cache_folder())!r}")
    return code


def _parts(which: Sequence[str]) -> dict[Part, list[str]]:
    """The repositories that are meant, each once, with the presets that need it."""
    parts: dict[Part, list[str]] = {}
    for name in which:
        if name in PRESETS:
            for part in preset_parts(name):
                parts.setdefault(part, []).append(name)
            continue
        identifier, _, revision = name.partition("@")
        if identifier.count("/") != 1 or not all(identifier.split("/")):
            raise ValueError(
                f"{name!r} is neither a preset ({', '.join(PRESETS)}) nor a hub id such as "
                "'qihoo360/fg-clip2-base'"
            )
        parts.setdefault(Part("checkpoint", identifier, revision or None), [])
    return parts


def _for_each(parts: dict[Part, list[str]], act: Callable[[Part, list[str]], None]) -> int:
    done, failures = 0, list[ValueError]()
    for part, presets in parts.items():
        try:
            act(part, presets)
            done += 1
        except ValueError as error:
            failures.append(error)
            if isinstance(error, hub.HubNotReachable):
                break
    for error in failures if done else failures[:-1]:
        say_error(str(error))
    if failures and not done:
        raise failures[-1]
    return EXIT_PARTLY_DONE if failures else 0


def _list(part: Part, presets: list[str]) -> None:
    record = hub.read_record(part.name, part.revision)
    if record is None:
        told = "not cached, and the hub was not asked yet: `fgclip-det models pin` does"
    else:
        here = "cached" if hub.is_cached(part.name, part.revision) else "not cached"
        told = f"{here}, {_told(record)}"
    say(f"{_titled(part)}: {told}{_needed(presets)}")


def _fetch(part: Part, presets: list[str]) -> None:
    directory = hub.fetch(part.name, part.revision, part.kind)
    record = hub.read_record(part.name, part.revision)
    # Files that another program has put into the cache have no record, and no sizes.
    told = f"at {directory.name}" if record is None else _told(record)
    say(f"{_titled(part)}: cached, {told}")


def _pin(part: Part, presets: list[str]) -> None:
    before = hub.read_record(part.name, part.revision)
    after = hub.pin(part.name, part.revision)
    news = ""
    if before is not None and before.commit != after.commit:
        news = f", was {before.commit}"
    if not hub.is_cached(part.name, part.revision):
        news += ", not cached: `fgclip-det models fetch` does"
    say(f"{_titled(part)}: {_told(after)}{news}")


def _titled(part: Part) -> str:
    at = "" if part.revision is None else f"@{part.revision}"
    return f"{part.kind} {part.name}{at}"


def _told(record: hub.Record) -> str:
    return f"{record.commit}, {hub.megabytes(record.size)}, licence {record.licence}"


def _needed(presets: list[str]) -> str:
    return f" (of {', '.join(presets)})" if presets else ""
