"""FG-CLIP's own evaluation of an encoder, from the stock files of each data set."""

from fgclip_det.evaluation.encoder.evaluate import Result, evaluate_encoder
from fgclip_det.evaluation.encoder.features import (
    DEFAULT_LIMIT_GB,
    joined_processes,
    own_device,
    process_number,
)
from fgclip_det.evaluation.encoder.protocols import PROTOCOLS, Protocol, find_protocol
from fgclip_det.evaluation.encoder.results import add_result, check_results, details_path
from fgclip_det.evaluation.encoder.rules import EncoderRules, family_of
from fgclip_det.evaluation.encoder.scoring import Population
from fgclip_det.evaluation.encoder.sheets import check_sheet, write_sheet
from fgclip_det.evaluation.encoder.tables import result_page
from fgclip_det.evaluation.encoder.validation_loop import EncoderEvaluationLoop

__all__ = [
    "DEFAULT_LIMIT_GB",
    "PROTOCOLS",
    "EncoderEvaluationLoop",
    "EncoderRules",
    "Population",
    "Protocol",
    "Result",
    "add_result",
    "check_results",
    "check_sheet",
    "details_path",
    "evaluate_encoder",
    "family_of",
    "find_protocol",
    "joined_processes",
    "own_device",
    "process_number",
    "result_page",
    "write_sheet",
]
