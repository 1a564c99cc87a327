"""JSON files of any size that hold one long array: one item at a time is in memory."""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from fgclip_det.io.regular_files import open_regular

MAX_ITEM_CHARACTERS = 64_000_000
_PIECE = 1 << 20
_GAP = re.compile(r"[ \t\r\n]*")
# Only the end of an item is looked for: numbers stay text, of whatever length.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


class JsonPiece(NamedTuple):
    """An item of an array, as it stands in the file.

    Attributes:
        offset: Of its first byte in the file.
        size: In bytes.
        text: What `parse_json` makes a value of.
    """

    offset: int
    size: int
    text: str


def read_json_array(path: str | os.PathLike, what: str = "file") -> Iterator[JsonPiece]:
    """The items of a file that is one JSON array, or JSON values one after another (JSON lines).

    An item is parsed far enough to know where it ends; whether it holds what `parse_json` refuses
    is for the caller to see, item by item.

    Args:
        path: The file, in UTF-8.
        what: What to call it in messages.

    Raises:
        ValueError: The file is missing, empty, no text, not such JSON, ends inside the array or an
            item, or an item is larger than `MAX_ITEM_CHARACTERS`; names the byte.
    """
    with open_regular(path, what) as stream:
        window = _Window(stream, f"{what} {str(path)!r}")
        window.skip("\ufeff")
        if not window.peek():
            raise ValueError(f"{window.where} is empty: get it again")
        is_array = window.skip("[")
        is_first = True
        while True:
            character = window.peek()
            if is_array and character == "]":
                window.skip("]")
                if window.peek():
                    raise window.error("goes on behind the end of its array")
                return
            if not character:
                if is_array:
                    raise window.error("ends inside its array: truncated")
                return
            if is_array and not is_first and not window.skip(","):
                raise window.error("has no comma between two items")
            window.peek()
            yield window.take()
            is_first = False


class _Window:
    """The part of a file that is looked at."""

    def __init__(self, stream: BinaryIO, where: str) -> None:
        self.where = where
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        # Of the next character: its place in the text, and the byte of the file that it begins at.
        self._place, self._offset = 0, 0
        self._is_whole = False

    def peek(self) -> str:
        """The next character that is no white space; "" at the end."""
        while True:
            gap = _GAP.match(self._text, self._place)
            self._move(len(gap[0]) if gap else 0)
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._read():
                return ""

    def skip(self, character: str) -> bool:
        """Go past the next character if it is this one."""
        if self.peek() != character:
            return False
        self._move(1)
        return True

    def take(self) -> JsonPiece:
        """The next item, and go past it."""
        while True:
            try:
                _, end = _DECODER.raw_decode(self._text, self._place)
            except RecursionError:
                raise self.error("holds an item that is nested too deep") from None
            except json.JSONDecodeError as error:
                if not self._read():
                    raise self.error(f"is no complete JSON ({error.msg})") from None
                continue
            # A number may go on behind what was read so far.
            if end < len(self._text) or self._text[end - 1] in '}]"' or not self._read():
                break
        offset, text = self._offset, self._text[self._place : end]
        self._move(end - self._place)
        return JsonPiece(offset, self._offset - offset, text)

    def error(self, problem: str) -> ValueError:
        return ValueError(f"{self.where} {problem}, at byte {self._offset}: get it again")

    def _move(self, characters: int) -> None:
        passed = self._text[self._place : self._place + characters]
        self._offset += len(passed) if passed.isascii() else len(passed.encode())
        self._place += characters

    def _read(self) -> bool:
        """Read on; False at the end of the file."""
        if self._is_whole:
            return False
        self._text = self._text[self._place :]
        self._place = 0
        if len(self._text) > MAX_ITEM_CHARACTERS:
            raise self.error(f"holds an item of more than {MAX_ITEM_CHARACTERS} characters")
        # As much as there is, so that an item of many pieces is not parsed again for each.
        piece = self._stream.read(max(_PIECE, len(self._text)))
        self._is_whole = not piece
        try:
            self._text += self._decoder.decode(piece, final=self._is_whole)
        except UnicodeDecodeError as error:
            raise self.error(f"is no UTF-8 ({error.reason})") from None
        return True
