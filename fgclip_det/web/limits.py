"""How much one page, and all pages together, may hold; and what is kept until then."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from fgclip_det.io import quoted

_MEGA = 1_000_000


@dataclass(frozen=True)
class Limits:
    """What the server enforces, whatever a browser says.

    Attributes:
        upload_bytes: Of one file.
        pixels: Of one picture.
        pictures: Of one user.
        text: Characters of one field.
        names: That are asked for at once, and that compete beside.
        boxes: That are shown in one picture.
        exemplars: Of one user.
        sessions: Users at once.
        stored_bytes: Of the files of all users together.
        region_bytes: Of the regions that are kept; the oldest are looked for again when needed.
    """

    upload_bytes: int = 32 * _MEGA
    pixels: int = 40 * _MEGA
    pictures: int = 12
    text: int = 4000
    names: int = 100
    boxes: int = 100
    exemplars: int = 40
    sessions: int = 64
    stored_bytes: int = 1024 * _MEGA
    region_bytes: int = 512 * _MEGA

    def check_text(self, text: Any, what: str) -> str:
        """The text of a field.

        Raises:
            ValueError: It is too long, or none.
        """
        if not isinstance(text, str):
            raise ValueError(f"{what} hold {quoted(text)}: type text")
        if len(text) > self.text:
            raise ValueError(f"{what} have {len(text)} characters: type {self.text} or fewer")
        return text

    def check_names(self, count: int, what: str) -> None:
        """Refuse more names than are asked for at once.

        Raises:
            ValueError: There are more.
        """
        if count > self.names:
            raise ValueError(f"{count} {what} are asked for: {self.names} at once are the most")

    def check_upload(self, size: int, name: str) -> None:
        """Refuse a file before it is read.

        Raises:
            ValueError: It is too large, or empty.
        """
        if size > self.upload_bytes:
            raise ValueError(
                f"{quoted(name)} has more than {self.upload_bytes / _MEGA:.0f} MB: make it smaller"
            )
        if not size:
            raise ValueError(f"{quoted(name)} is empty: copy it again")


class Budget:
    """Bytes that all users share.

    Args:
        most: How many there are.
    """

    def __init__(self, most: int) -> None:
        self.most, self.used = most, 0
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Take some.

        Raises:
            ValueError: There are not as many left.
        """
        with self._lock:
            if self.used + size > self.most:
                raise ValueError(
                    "this server holds as many pictures as it may: remove some, or come back later"
                )
            self.used += size

    def give(self, size: int) -> None:
        """Give some back."""
        with self._lock:
            self.used -= size


class Kept:
    """Values up to so many bytes, of which those go first that were not used for longest.

    Args:
        most: Bytes of all together; a value of more is not kept at all.
    """

    def __init__(self, most: int) -> None:
        self.most, self.used = most, 0
        self._values: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Any) -> Any:
        """A value; None where it is not kept (any more)."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Any, value: Any, size: int) -> None:
        """Keep a value of so many bytes."""
        with self._lock:
            self._drop(key)
            if size > self.most:
                return
            self._values[key] = value, size
            self.used += size
            while self.used > self.most:
                self._drop(next(iter(self._values)))

    def drop(self, key: Any) -> None:
        """Forget a value, if it is there."""
        with self._lock:
            self._drop(key)

    def _drop(self, key: Any) -> None:
        if key in self._values:
            self.used -= self._values.pop(key)[1]
