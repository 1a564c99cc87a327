"""Where the stand-in goes, what it answers, and that mmdet's detectors run on it."""

import importlib
import importlib.util
import pkgutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from fgclip_det import compat
from fgclip_det.compat import mmcv_ext

pytest.importorskip("mmcv")
ROOT = Path(__file__).parents[2]
needs_stand_in = pytest.mark.skipif(
    not mmcv_ext.is_installed(), reason="this environment has the compiled mmcv"
)


@needs_stand_in
def test_import_machinery_sees_an_ordinary_module() -> None:
    module = importlib.import_module("mmcv._ext")
    spec = importlib.util.find_spec("mmcv._ext")
    assert spec is module.__spec__ and spec.name == "mmcv._ext" and spec.loader is not None
    assert module.__loader__ is spec.loader
    if hasattr(pkgutil, "find_loader"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            assert pkgutil.find_loader("mmcv._ext") is spec.loader


@needs_stand_in
def test_setup_again_changes_nothing() -> None:
    before = sys.modules["mmcv._ext"]
    compat.setup()
    assert sys.modules["mmcv._ext"] is before


@needs_stand_in
def test_other_ops_name_themselves_and_the_mend() -> None:
    from mmcv.ops import box_iou_rotated

    with pytest.raises(NotImplementedError, match=r"box_iou_rotated.*mmcv==2\.1\.0"):
        box_iou_rotated(torch.rand(2, 5), torch.rand(2, 5))
    with pytest.raises(AttributeError):
        _ = sys.modules["mmcv._ext"].__nothing__


def run_with_fake_mmcv(folder: Path, code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{folder}:{ROOT}", "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_a_real_extension_is_never_replaced(tmp_path: Path) -> None:
    package = tmp_path / "mmcv"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "_ext.py").write_text("REAL = True\n")
    code = (
        "from fgclip_det.compat import mmcv_ext; assert not mmcv_ext.install();"
        "assert mmcv_ext.has_compiled_ops();"
        "import mmcv._ext; assert mmcv._ext.REAL; assert not mmcv_ext.install(); print('real')"
    )
    assert run_with_fake_mmcv(tmp_path, code) == "real"


def detector(config: str, **options):
    """Build a detector of mmdet's own from its shipped config, with random weights."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    mim = Path(importlib.util.find_spec("mmdet").origin).parent / ".mim" / "configs"
    cfg = Config.fromfile(mim / config)
    cfg.model.backbone.init_cfg = None
    cfg.merge_from_dict(options)
    register_all_modules()
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    # DINO's level embeddings are uninitialised memory until then, now and then NaN.
    model.init_weights()
    return model


def picture_batch(size: int = 96) -> dict:
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    sample = DetDataSample()
    shape = (size, size)
    sample.set_metainfo(
        dict(img_shape=shape, ori_shape=shape, batch_input_shape=shape, scale_factor=(1.0, 1.0))
    )
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[8.0, 8.0, 60.0, 50.0], [30.0, 40.0, 90.0, 90.0]]),
        labels=torch.tensor([1, 3]),
    )
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 255, (3, size, size), dtype=torch.uint8, generator=generator)
    return dict(inputs=[pixels], data_samples=[sample])


def train_and_predict(model) -> list:
    model.train()
    batch = model.data_preprocessor(picture_batch(), True)
    losses, _ = model.parse_losses(model(**batch, mode="loss"))
    losses.backward()
    assert torch.isfinite(losses)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)
    model.eval()
    with torch.no_grad():
        results = model.test_step(picture_batch())
    assert torch.isfinite(results[0].pred_instances.bboxes).all()
    return results


RESNET18 = {
    "model.backbone.depth": 18,
    "model.neck.in_channels": [64, 128, 256, 512],
    "model.neck.out_channels": 32,
}


@pytest.mark.parametrize("amp", [False, True])
def test_faster_rcnn_with_soft_nms_trains_and_predicts(amp: bool) -> None:
    pytest.importorskip("mmdet")
    model = detector(
        "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
        **RESNET18,
        **{
            "model.rpn_head.in_channels": 32,
            "model.rpn_head.feat_channels": 32,
            "model.roi_head.bbox_roi_extractor.out_channels": 32,
            "model.roi_head.bbox_head.in_channels": 32,
            "model.roi_head.bbox_head.fc_out_channels": 64,
            "model.roi_head.bbox_head.num_classes": 5,
            "model.train_cfg.rpn_proposal.max_per_img": 50,
            "model.test_cfg.rpn.max_per_img": 50,
            "model.test_cfg.rcnn.score_thr": 0.0,
            "model.test_cfg.rcnn.nms.type": "soft_nms",
        },
    )
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        assert len(train_and_predict(model)[0].pred_instances) > 0


def test_retinanet_trains_and_predicts() -> None:
    pytest.importorskip("mmdet")
    model = detector(
        "retinanet/retinanet_r50_fpn_1x_coco.py",
        **RESNET18,
        **{"model.bbox_head.in_channels": 32, "model.bbox_head.feat_channels": 32},
    )
    train_and_predict(model)


def test_dino_trains_and_predicts() -> None:
    pytest.importorskip("mmdet")
    # The decoder's coordinate encoding is fixed at 2 x 256 channels, so the width stays.
    model = detector(
        "dino/dino-4scale_r50_8xb2-12e_coco.py",
        **{
            "model.backbone.depth": 18,
            "model.neck.in_channels": [128, 256, 512],
            "model.num_queries": 20,
            "model.encoder.num_layers": 1,
            "model.encoder.layer_cfg.ffn_cfg.feedforward_channels": 64,
            "model.decoder.num_layers": 2,
            "model.decoder.layer_cfg.ffn_cfg.feedforward_channels": 64,
            "model.dn_cfg.group_cfg.num_dn_queries": 4,
            "model.test_cfg.max_per_img": 10,
        },
    )
    assert len(train_and_predict(model)[0].pred_instances) == 10
