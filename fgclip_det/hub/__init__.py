"""Checkpoints of the Hugging Face hub: found in the cache or fetched, at commits that stay."""

from fgclip_det.hub.records import Record, cache_folder, read_record
from fgclip_det.hub.repositories import (
    HUB_FILES,
    HubNotReachable,
    fetch,
    is_cached,
    megabytes,
    pin,
    resolve_directory,
)

__all__ = [
    "HUB_FILES",
    "HubNotReachable",
    "Record",
    "cache_folder",
    "fetch",
    "is_cached",
    "megabytes",
    "pin",
    "read_record",
    "resolve_directory",
]
