"""The frozen encoder costs a training step no gradients, no activations and no optimizer state."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.structures import InstanceData

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = ROOT / "fgclip_det" / "assets" / "shapes"
SIDE = 64


@pytest.fixture(scope="module")
def config() -> Config:
    """The Shapes detector on the bundled encoder."""
    config = Config.fromfile(ROOT / "configs" / "shapes" / "ovdet_tiny.py")
    config.model.backbone.encoder = str(BUNDLED / "encoder")
    config.model.vocabulary = str(BUNDLED / "vocabulary.json")
    return config


@pytest.fixture(params=[None, "bfloat16"], ids=["float32", "amp"])
def step(config: Config, mmdet_scope: None, request: pytest.FixtureRequest):
    """A detector and its optimizer after a training step, and the batch."""
    torch.manual_seed(0)
    model = MODELS.build(config.model).train()
    settings = dict(config.optim_wrapper)
    if request.param:
        settings.update(type="AutocastOptimWrapper", dtype=request.param)
    wrapper = build_optim_wrapper(model, settings)
    if wrapper.__class__.__name__ == "AutocastOptimWrapper":
        model.to(wrapper.device_type)
    sample = DetDataSample(metainfo=dict(img_shape=(SIDE, SIDE), ori_shape=(SIDE, SIDE)))
    boxes = torch.tensor([[4.0, 4.0, 40.0, 44.0]])
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([0]))
    image = torch.randint(0, 256, (3, SIDE, SIDE), dtype=torch.uint8)
    batch = dict(inputs=[image], data_samples=[sample])
    return model, wrapper, batch


def _encoder_parameters(model: torch.nn.Module) -> set[int]:
    return {id(parameter) for parameter in model.encoder.parameters()}


def test_no_gradients_and_no_optimizer_state(step) -> None:
    model, wrapper, batch = step
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    model.train_step(batch, wrapper)
    encoder = _encoder_parameters(model)
    assert len(encoder) > 50
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())
    assert all(parameter.grad is None for parameter in model.encoder.parameters())
    stateful = {id(parameter) for parameter in wrapper.optimizer.state}
    assert stateful
    assert not stateful & encoder
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(value, before[name])


def test_no_activations_are_kept(step) -> None:
    model, wrapper, batch = step
    saved: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor)
        return tensor

    data = model.data_preprocessor(batch, training=True)
    with wrapper.optim_context(model), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        features = model.backbone(data["inputs"])
        assert saved == []
        assert not any(feature.requires_grad for feature in features.maps)
        levels = model.neck(features.maps)
    assert saved
    assert all(level.requires_grad for level in levels)
    # Nothing that the backward pass keeps is a weight of the encoder or a copy of one.
    storages = {parameter.data_ptr() for parameter in model.encoder.parameters()}
    assert not storages & {tensor.data_ptr() for tensor in saved}


def test_a_step_keeps_the_same_whatever_the_depth_of_the_encoder(step, monkeypatch) -> None:
    """Bytes that wait for the backward pass, with each block of the encoder run three times."""
    model, wrapper, batch = step

    def kept_bytes() -> int:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: sizes.append(tensor.nbytes) or tensor, lambda tensor: tensor
        ):
            torch.manual_seed(0)
            data = model.data_preprocessor(batch, training=True)
            with wrapper.optim_context(model):
                model(**data, mode="loss")
        return sum(sizes)

    model.train_step(batch, wrapper)
    expected = kept_bytes()
    layer = type(model.encoder.vision_model.encoder.layers[0])
    once = layer.forward
    calls = []

    def thrice(self, *args, **kwargs):
        calls.append(self)
        once(self, *args, **kwargs)
        once(self, *args, **kwargs)
        return once(self, *args, **kwargs)

    monkeypatch.setattr(layer, "forward", thrice)
    assert kept_bytes() == expected
    assert calls
