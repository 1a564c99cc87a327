"""Tokenizers of checkpoints, and a CLIP-style one trained on one's own captions."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import (  # type: ignore[attr-defined]
    CLIPTokenizerFast,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from fgclip_det.encoders.pretrained import read_config
from fgclip_det.io import disk_error, one_line, open_regular, parse_json, write_json, write_text
from fgclip_det.io.json_files import MAX_JSON_BYTES

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
# All that transformers looks for, whatever it may do with it.
_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
_END_OF_WORD = "</w>"
# How CLIP splits text before merging: contractions, words, single digits, punctuation.
_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def train_tokenizer(captions: Iterable[str], vocab_size: int) -> CLIPTokenizerFast:
    """Train byte-pair merges on captions.

    The vocabulary is laid out as CLIP's: 256 bytes, the same at the end of a word, merges, begin
    token, end token (which also pads). Any text can be encoded; frequent words are one token.

    Args:
        captions: Texts; their order does not matter.
        vocab_size: Number of tokens, at least 514.

    Returns:
        A tokenizer equal to one that ``CLIPTokenizerFast.from_pretrained`` reads from disk.

    Raises:
        ValueError: `vocab_size` leaves no room for the bytes and the two special tokens.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_and_specials = 2 * len(alphabet) + 2
    if vocab_size < bytes_and_specials:
        raise ValueError(f"vocab_size {vocab_size} is too small: at least {bytes_and_specials}")
    # The trainer knows the bytes without their end-of-word forms, hence room for one set only.
    merges = _train_merges(captions, alphabet, vocab_size - len(alphabet) - 2)
    merges = merges[: vocab_size - bytes_and_specials]
    tokens = [*alphabet, *(byte + _END_OF_WORD for byte in alphabet)]
    tokens += ["".join(pair) for pair in merges]
    tokens += [BEGIN, END]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        vocabulary = {token: index for index, token in enumerate(tokens)}
        write_json(path / "vocab.json", vocabulary)
        lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
        write_text(path / "merges.txt", "\n".join(lines) + "\n")
        write_json(path / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer"})
        return CLIPTokenizerFast.from_pretrained(path)


def read_tokenizer(directory: Path, vocab_size: int) -> CLIPTokenizerFast | None:
    """The tokenizer of a checkpoint directory, None where it has no tokenizer files.

    Args:
        directory: Of the checkpoint.
        vocab_size: Tokens that the model has a row for.

    Raises:
        ValueError: There are such files, but they cannot be read, or have more tokens.
    """
    _check_files(directory)
    if not any((directory / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        return None
    with _readable(directory):
        tokenizer = CLIPTokenizerFast.from_pretrained(directory)
    _check_ids(tokenizer, vocab_size, directory)
    return tokenizer


def read_fast_tokenizer(directory: Path, vocab_size: int) -> PreTrainedTokenizerFast | None:
    """The tokenizer in ``tokenizer.json`` as it stands there, None where there is no such file.

    What class ``tokenizer_config.json`` names does not matter: it differs between releases of
    transformers, some of which build their own pipeline in place of the stored one. Only the
    padding is read from it.

    Args:
        directory: Of the checkpoint.
        vocab_size: Tokens that the model has a row for.

    Raises:
        ValueError: There are such files, but they cannot be read, do not say how to pad, or have
            more tokens.
    """
    _check_files(directory)
    path = directory / "tokenizer.json"
    if not path.is_file():
        return None
    config = directory / "tokenizer_config.json"
    options = read_config(config) if config.is_file() else {}
    pad = options.get("pad_token")
    with _readable(directory):
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(path),
            pad_token=pad.get("content") if isinstance(pad, dict) else pad,
            padding_side=options.get("padding_side", "right"),
        )
    if tokenizer.pad_token_id is None:
        raise ValueError(f"{str(config)!r} names no pad_token: copy it again")
    _check_ids(tokenizer, vocab_size, directory)
    return tokenizer


def write_tokenizer(tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Write the files that `read_tokenizer` reads.

    Raises:
        OSError: Writing failed.
    """
    try:
        tokenizer.save_pretrained(directory)
    except Exception as error:  # the Rust writer raises bare Exception
        if isinstance(error, OSError):
            raise
        raise disk_error(error, directory) from error


def _check_files(directory: Path) -> None:
    """Refuse what transformers would wait for, or read without end."""
    for path in (directory / name for name in _FILES):
        if os.path.lexists(path):
            with open_regular(path, "tokenizer file") as stream:
                size = os.fstat(stream.fileno()).st_size
            if size > MAX_JSON_BYTES:
                raise ValueError(
                    f"tokenizer file {str(path)!r} has {size / 1e6:.0f} MB, more than the "
                    f"{MAX_JSON_BYTES / 1e6:.0f} MB that are read: is it another file?"
                )


@contextmanager
def _readable(directory: Path) -> Iterator[None]:
    try:
        yield
    # The Rust reader raises bare Exception, and a panic of its own, which is no Exception.
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(
            f"the tokenizer files in {str(directory)!r} cannot be read ({one_line(error)}): copy "
            "them again"
        ) from None


def _check_ids(tokenizer: PreTrainedTokenizerFast, vocab_size: int, directory: Path) -> None:
    last = max(tokenizer.get_vocab().values(), default=-1)
    if last >= vocab_size:
        raise ValueError(
            f"the tokenizer in {str(directory)!r} gives ids up to {last}, but the model has "
            f"vocab_size {vocab_size}: they are of different checkpoints, copy both again"
        )


def _train_merges(
    captions: Iterable[str], alphabet: list[str], vocab_size: int
) -> list[tuple[str, str]]:
    trained = Tokenizer(BPE(end_of_word_suffix=_END_OF_WORD))
    trained.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=alphabet,
        end_of_word_suffix=_END_OF_WORD,
        show_progress=False,
    )
    trained.train_from_iterator(sorted(set(captions)), trainer)
    return [tuple(pair) for pair in parse_json(trained.to_str(), "tokenizer")["model"]["merges"]]
