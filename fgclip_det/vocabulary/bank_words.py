"""What the names of a bank say, and which of them speak for another name."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import chain

from fgclip_det.vocabulary.attributes import Attributes
from fgclip_det.vocabulary.same_words import head_of, is_kind_of, same_words
from fgclip_det.vocabulary.vocabulary import Vocabulary


class BankWords:
    """Finds names of a bank by what they say.

    Args:
        bank: The names; None for none.
        attributes: Lists of what is but a property; None for none.
    """

    def __init__(self, bank: Vocabulary | None, attributes: Attributes | None) -> None:
        self._attributes = attributes
        self._prompts = () if bank is None else bank.prompts
        names = () if bank is None else bank.names
        self._rows: defaultdict[str, list[int]] = defaultdict(list)
        for row, (name, prompts) in enumerate(zip(names, self._prompts, strict=True)):
            for word in {same_words(word) for word in (name, *prompts)}:
                self._rows[word].append(row)
        self._of_heads: defaultdict[str, list[str]] = defaultdict(list)
        for words in self._rows:
            self._of_heads[head_of(words)].append(words)
        self._texts = {same_words(text): text for text in chain(*self._prompts)}

    def rows_of(self, words: str) -> list[int]:
        """Rows that say the same as a form that `same_words` gives."""
        return self._rows.get(words, [])

    def rows_within(self, words: str) -> list[int]:
        """Rows that say the same as such a form, or are kinds of it."""
        alike = self._of_heads.get(head_of(words), ())
        kinds = [other for other in alike if is_kind_of(other, words)]
        return [row for other in {words, *kinds} for row in self.rows_of(other)]

    def kinds(self, said: set[str]) -> list[int]:
        """Rows that say a name with attributes added, rising.

        A "hot dog" is none of "dog": only what the lists know is but a property.

        Args:
            said: Forms of all that the name says.
        """
        if self._attributes is None:
            return []
        found = {
            row
            for general in said
            for words in self._of_heads.get(head_of(general), ())
            if words not in said and is_kind_of(words, general)
            if self._attributes.only_added(words, general)
            for row in self.rows_of(words)
        }
        return sorted(found - {row for words in said for row in self.rows_of(words)})

    def said_as_here(self, vocabulary: Vocabulary) -> Vocabulary:
        """The vocabulary with each prompt as the bank has it, where it has it in other words."""
        prompts = tuple(
            tuple(self._texts.get(same_words(text), text) for text in said)
            for said in vocabulary.prompts
        )
        return vocabulary if prompts == vocabulary.prompts else replace(vocabulary, prompts=prompts)

    def rows_of_texts(self) -> dict[str, int]:
        """The rows of names with one prompt, by it."""
        return {said[0]: row for row, said in enumerate(self._prompts) if len(said) == 1}
