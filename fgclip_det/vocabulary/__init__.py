"""Vocabularies: names, prompts and groups, and their labelled text embeddings."""

from fgclip_det.vocabulary.text_embeddings import TextEmbeddings
from fgclip_det.vocabulary.vocabulary import Vocabulary

__all__ = ["TextEmbeddings", "Vocabulary"]
