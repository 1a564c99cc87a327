"""Open-vocabulary detectors on FG-CLIP features, registered into ``mmdet.registry``."""

from fgclip_det import compat  # noqa: F401  (first: mends what the next imports need)
from fgclip_det.encoders import RegionEncoder, build_encoder
from fgclip_det.models.backbones.fgclip2_vit import FGCLIP2ViT
from fgclip_det.models.backbones.fgclip_vit import FGCLIPFeatures, FGCLIPViT
from fgclip_det.models.dense_heads.float32_rpn_head import Float32RPNHead
from fgclip_det.models.detectors.box_source import BoxSource
from fgclip_det.models.detectors.hub_detector import HubDetector
from fgclip_det.models.detectors.open_vocab_two_stage import OpenVocabTwoStageDetector
from fgclip_det.models.detectors.open_vocab_wrapper import OpenVocabWrapper
from fgclip_det.models.detectors.picture_detector import PictureDetector
from fgclip_det.models.necks.vit_feature_pyramid import ViTFeaturePyramid
from fgclip_det.models.regions.regions import Regions
from fgclip_det.models.roi_heads.open_vocab_bbox_head import OpenVocabBBoxHead
from fgclip_det.models.roi_heads.open_vocab_mask_roi_head import MaskRegions, OpenVocabMaskRoIHead
from fgclip_det.models.roi_heads.open_vocab_roi_head import OpenVocabRoIHead
from fgclip_det.models.roi_heads.region_text_head import RegionTextHead
from fgclip_det.models.roi_heads.roi_align_extractor import RoIAlignExtractor
from fgclip_det.models.roi_heads.score_fusion import geometric_score_ensemble
from fgclip_det.models.roi_heads.zero_shot_classifier import ZeroShotClassifier

__all__ = [
    "BoxSource",
    "FGCLIP2ViT",
    "FGCLIPFeatures",
    "FGCLIPViT",
    "Float32RPNHead",
    "HubDetector",
    "MaskRegions",
    "OpenVocabBBoxHead",
    "OpenVocabMaskRoIHead",
    "OpenVocabRoIHead",
    "OpenVocabTwoStageDetector",
    "OpenVocabWrapper",
    "PictureDetector",
    "RegionEncoder",
    "RegionTextHead",
    "Regions",
    "RoIAlignExtractor",
    "ViTFeaturePyramid",
    "ZeroShotClassifier",
    "build_encoder",
    "geometric_score_ensemble",
]
