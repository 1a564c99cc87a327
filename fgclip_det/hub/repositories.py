"""Directories of checkpoints: local ones as they are, those of the hub fetched once."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from fgclip_det.hub.records import (
    NOT_STATED,
    Record,
    cache_folder,
    is_commit,
    read_record,
    write_record,
)
from fgclip_det.io import one_line, quoted

# No code and no pickles.
HUB_FILES = ("*.json", "*.safetensors", "*.txt")
_EXAMPLES = {
    "encoder": "qihoo360/fg-clip-base",
    "detector": "ustc-community/dfine-small-obj365",
    "mask model": "facebook/sam2.1-hiera-tiny",
}
_TIMEOUT = 10.0
# None for that of the hub's client, which HF_ENDPOINT sets.
_ENDPOINT: str | None = None
# Room that a disk keeps beside what is fetched.
_SPARE_BYTES = 64 * 2**20


class HubNotReachable(ValueError):
    """No answer came from the hub, so that none will come to the next question either."""


def resolve_directory(
    name_or_path: str | os.PathLike,
    revision: str | None = None,
    kind: str = "encoder",
    files: Sequence[str] = HUB_FILES,
) -> Path:
    """Directory of a checkpoint, fetched first where the name is a hub id that is not in the cache.

    What was fetched once is used without any request, at the commit that it had then, until `pin`
    moves it. A branch or a tag is resolved once likewise.

    Args:
        name_or_path: A directory, or a hub id.
        revision: Commit, branch or tag; None for the recorded commit, else the main branch.
        kind: What it is, for messages.
        files: Patterns of the files that are read.

    Raises:
        ValueError: No such directory, and no hub repository of that name could be fetched.
    """
    name = os.fspath(name_or_path)
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            return path
        is_file = path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # too long, of no user, or with a NUL
        raise ValueError(f"{kind} {quoted(name)} is no directory ({one_line(error)})") from None
    if is_file:
        raise ValueError(f"{name!r} is a file: give the directory that holds config.json")
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or name.endswith("/"):
        raise ValueError(
            f"{kind} {quoted(name)} is neither a directory nor a hub id such as "
            f"{_EXAMPLES.get(kind, _EXAMPLES['encoder'])!r}"
        )
    return fetch(name, revision, kind, files)


def fetch(
    name: str,
    revision: str | None = None,
    kind: str = "checkpoint",
    files: Sequence[str] = HUB_FILES,
) -> Path:
    """Directory of a hub repository in the cache; what is missing is fetched, said in a warning.

    Raises:
        ValueError: It cannot be fetched: the message says why, and what mends it.
    """
    record = read_record(name, revision)
    if record is not None and record.fetched:
        directory = _cached(name, record.commit, files)
        if directory is not None and all((directory / file).is_file() for file in record.files):
            return directory
    try:
        if record is None:
            record = pin(name, revision, files)
    except ValueError:
        # Whoever filled the cache with another program has the files, and no record.
        directory = _cached(name, revision, files)
        if directory is None or not any(directory.glob("*.safetensors")):
            raise
        return directory
    _check_files(name, record)
    _check_room(name, record)
    warnings.warn(
        f"fetching {kind} {name} at {record.commit}: {megabytes(record.size)}, licence "
        f"{record.licence}, into {str(cache_folder())!r}",
        stacklevel=2,
    )
    try:
        directory = Path(
            snapshot_download(
                name,
                revision=record.commit,
                cache_dir=cache_folder(),
                endpoint=_ENDPOINT,
                allow_patterns=list(files),
                etag_timeout=_TIMEOUT,
            )
        )
    except Exception as error:  # of whichever HTTP library the hub's client brings
        raise _failure(name, revision, error) from error
    absent = [file for file in record.files if not (directory / file).is_file()]
    if absent:
        raise ValueError(f"{name!r} came without {absent[0]!r}: fetch it again")
    write_record(name, revision, replace(record, fetched=True))
    return directory


def pin(name: str, revision: str | None = None, files: Sequence[str] = HUB_FILES) -> Record:
    """Ask the hub for the commit that a revision is at now, and keep it for `fetch`.

    Raises:
        HubNotReachable: The hub cannot be asked.
        ValueError: The hub has no such repository or revision.
    """
    if constants.HF_HUB_OFFLINE:
        raise _not_reachable(name, revision, "HF_HUB_OFFLINE is set")
    try:
        info = HfApi(endpoint=_ENDPOINT).model_info(
            name, revision=revision, files_metadata=True, timeout=_TIMEOUT
        )
    except Exception as error:  # of whichever HTTP library the hub's client brings
        raise _failure(name, revision, error) from error
    if not isinstance(info.sha, str) or not is_commit(info.sha):
        raise ValueError(f"the hub states no commit of {name!r}, but {quoted(info.sha)}: try later")
    wanted = {
        file.rfilename: file.size or 0
        for file in info.siblings or ()
        if any(fnmatch(file.rfilename, pattern) for pattern in files)
    }
    has_pickles = any(
        file.rfilename.endswith((".bin", ".pt", ".pth")) for file in info.siblings or ()
    )
    if has_pickles and not any(file.endswith(".safetensors") for file in wanted):
        raise ValueError(
            f"{name!r} has its weights as pickles alone, which may run code: convert them to "
            "safetensors, and give that directory"
        )
    record = Record(info.sha, _licence(info), sum(wanted.values()), sorted(wanted))
    known = read_record(name, revision)
    if known is not None and known.commit == record.commit:
        record = replace(record, fetched=known.fetched)
    write_record(name, revision, record)
    return record


def is_cached(name: str, revision: str | None = None, files: Sequence[str] = HUB_FILES) -> bool:
    """Whether `fetch` would find all files of a repository without a request."""
    record = read_record(name, revision)
    if record is None or not record.fetched:
        return False
    directory = _cached(name, record.commit, files)
    return directory is not None and all((directory / file).is_file() for file in record.files)


def _cached(name: str, revision: str | None, files: Sequence[str]) -> Path | None:
    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                cache_dir=cache_folder(),
                endpoint=_ENDPOINT,
                allow_patterns=list(files),
                local_files_only=True,
            )
        )
    except (OSError, ValueError, HfHubHTTPError):
        return None


def _licence(info: Any) -> str:
    card = getattr(info, "card_data", None)
    stated = card.get("license") if card is not None else None
    if isinstance(stated, str):
        return stated
    named = [tag[8:] for tag in info.tags or () if tag.startswith("license:")]
    return named[0] if named else NOT_STATED


def _check_files(name: str, record: Record) -> None:
    if not any(file.endswith(".safetensors") for file in record.files):
        raise ValueError(f"{name!r} holds no safetensors weights: name another repository")


def _check_room(name: str, record: Record) -> None:
    folder = cache_folder()
    while not folder.is_dir():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < record.size + _SPARE_BYTES:
        raise ValueError(
            f"{name!r} is {megabytes(record.size)}, and {str(cache_folder())!r} has room for "
            f"{megabytes(free)}: free some, or set HF_HOME to a folder on another disk"
        )


def _failure(name: str, revision: str | None, error: Exception) -> ValueError:
    """What the hub's client says, as a line that says what to do."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    at = "" if revision is None else f" at {revision!r}"
    if isinstance(error, HFValidationError):
        return ValueError(f"{quoted(name)} is no hub id ({one_line(error)}): check the name")
    if isinstance(error, GatedRepoError):
        return ValueError(
            f"{name!r} is gated: accept its terms on its page, then log in with `hf auth login`"
        )
    if isinstance(error, RevisionNotFoundError):
        return ValueError(f"{name!r} has no revision {revision!r}: name a commit, branch or tag")
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403, 404):
        return ValueError(
            f"the hub has no repository {name!r}{at}, or it is private: check the name, or log in "
            "with `hf auth login`"
        )
    if isinstance(error, OSError) and error.filename and error.errno:
        return ValueError(
            f"{error.filename!r} cannot be written ({error.strerror}): free the place"
        )
    return _not_reachable(name, revision, one_line(error))


def _not_reachable(name: str, revision: str | None, reason: str) -> HubNotReachable:
    asked = name if revision is None else f"{name}@{revision}"
    return HubNotReachable(
        f"{name!r} is no local directory, it is not in the cache, and fetching it from the hub "
        f"failed ({reason}): where there is a network, run `fgclip-det models fetch {asked}`, or "
        "give its directory"
    )


def megabytes(size: int) -> str:
    """A number of bytes as people read it."""
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
