"""Detectors on a tiny encoder, and batches, all seeded."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from mmengine.config import Config

import fgclip_det.models  # noqa: F401  (registers)
from tests.models.detectors_for_tests import BASE, CONFIGS, NOVEL


@pytest.fixture(scope="session")
def model_config(encoder_dir, tmp_path_factory):
    """The recipe's model with every size made small."""
    vocabulary = {"names": BASE + NOVEL, "groups": {"base": BASE, "novel": NOVEL}}
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.json"
    path.write_text(json.dumps(vocabulary))
    norm_cfg = dict(type="BN", requires_grad=True)
    config = Config.fromfile(CONFIGS / "_base_" / "ovdet_fgclip.py")
    config.merge_from_dict(
        {
            "model.vocabulary": str(path),
            "model.backbone": dict(encoder=encoder_dir, out_indices=(0, 1, 2)),
            "model.neck": dict(out_channels=8, scales=(2, 1, 0.5), num_outs=4, norm_cfg=norm_cfg),
            "model.roi_head.bbox_head": dict(
                num_shared_convs=1, conv_out_channels=8, fc_out_channels=16, norm_cfg=norm_cfg
            ),
            "model.roi_head.bbox_roi_extractor.output_size": 3,
            "model.train_cfg.rpn_proposal": dict(nms_pre=50, max_per_img=20),
            "model.train_cfg.rpn.sampler.num": 16,
            "model.train_cfg.rcnn.sampler.num": 16,
            "model.test_cfg.rpn": dict(nms_pre=50, max_per_img=20),
            "model.test_cfg.rcnn.score_thr": 0.0,
        }
    )
    return config.model


@pytest.fixture
def build(model_config):
    """Build a seeded detector, with keyword overrides of the model's config."""
    from mmdet.registry import MODELS

    def build(**overrides):
        config = Config(dict(model=copy.deepcopy(model_config)))
        config.merge_from_dict({f"model.{key}": value for key, value in overrides.items()})
        torch.manual_seed(0)
        detector = MODELS.build(config.model)
        detector.init_weights()
        return detector.eval()

    return build


@pytest.fixture
def make_batch():
    """Raw data of N random 64 x 96 pictures with two objects each, as a data loader gives it."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    def make_batch(count=2, objects=2, seed=0):
        generator = torch.Generator().manual_seed(seed)
        images, samples = [], []
        for index in range(count):
            images.append(torch.randint(0, 256, (3, 64, 96), generator=generator).byte())
            corners = torch.rand(objects, 2, generator=generator) * torch.tensor([40.0, 20.0])
            sample = DetDataSample(
                metainfo=dict(
                    img_id=index,
                    img_shape=(64, 96),
                    ori_shape=(128, 192),
                    scale_factor=(0.5, 0.5),
                )
            )
            sample.gt_instances = InstanceData(
                bboxes=torch.cat([corners, corners + 30], dim=1),
                labels=torch.randint(0, len(BASE), (objects,), generator=generator),
            )
            samples.append(sample)
        return {"inputs": images, "data_samples": samples}

    return make_batch
