"""Vocabularies: names, prompts and groups, their labelled text embeddings, what is shown, and what
competes.
"""

from fgclip_det.vocabulary.attributes import Attributes
from fgclip_det.vocabulary.competition import Competition, Competitors
from fgclip_det.vocabulary.region_bank import RegionBank
from fgclip_det.vocabulary.shown.exemplars import Exemplar
from fgclip_det.vocabulary.text_embeddings import TextEmbeddings
from fgclip_det.vocabulary.vocabulary import Vocabulary

__all__ = [
    "Attributes",
    "Competition",
    "Competitors",
    "Exemplar",
    "RegionBank",
    "TextEmbeddings",
    "Vocabulary",
]
