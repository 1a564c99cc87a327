"""Detectors from a config and a checkpoint, ready to be asked, and where they compute."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fgclip_det import compat  # first: mends what the next imports need

# isort: split
from mmcv.transforms import Compose
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope

from fgclip_det.apis.argument_checks import check_path
from fgclip_det.apis.presets import preset_name, preset_path
from fgclip_det.engine.config_files import read_config_file
from fgclip_det.hub import HubNotReachable
from fgclip_det.models import OpenVocabTwoStageDetector, OpenVocabWrapper
from fgclip_det.models.detectors.open_vocab_wrapper import brings_weights

BUNDLED = Path(__file__).parents[1] / "assets" / "shapes"
OpenVocabDetector = OpenVocabTwoStageDetector | OpenVocabWrapper


def load_detector(
    model: str | os.PathLike | Config | None = None,
    weights: str | os.PathLike | None = None,
    encoder: str | os.PathLike | None = None,
) -> tuple[OpenVocabDetector, Compose]:
    """Build a detector and read its weights, on the CPU.

    Args:
        model: See `OpenVocabInferencer`.
        weights: See `OpenVocabInferencer`.
        encoder: See `OpenVocabInferencer`.

    Returns:
        The detector, and the transforms of its config that a picture goes through once it is
        loaded.

    Raises:
        ValueError: A file is missing or does not fit.
    """
    for path, what in ((weights, "weights"), (encoder, "encoder")):
        if path is not None:
            check_path(path, what)
    if model is None:
        cfg, weights = _bundled(weights, encoder)
    else:
        cfg = _read_config(model)
    name = "the given one" if isinstance(model, Config) else repr(str(model))
    settings = cfg.get("model")
    _find_beside(settings, cfg.filename)
    kind = _class_of(settings, name)
    if weights is None and not _has_weights(settings):
        raise ValueError(f"config {name} needs its checkpoint: give weights too")
    if encoder is not None:
        holder = settings if issubclass(kind, OpenVocabWrapper) else settings.backbone
        holder.encoder = str(encoder)
    init_default_scope("mmdet")
    try:
        detector = _build(kind, settings)
    except HubNotReachable as error:
        preset = preset_name(model)
        if preset is None:
            raise
        # Of its parts the error names the first that is missing.
        raise HubNotReachable(
            f"{error}; `fgclip-det models fetch {preset}` fetches all of the preset"
        ) from error
    if weights is not None:
        _load_weights(detector, weights)
    return detector, _test_pipeline(cfg)


def check_weights(settings: Mapping, weights: str | os.PathLike | None) -> None:
    """Say what is wrong with a checkpoint, or that there is none, before anything is built.

    Args:
        settings: ``model`` of a config.
        weights: The checkpoint, or None where the model brings its weights.

    Raises:
        ValueError: See `load_checkpoint_file`, or it is missing.
    """
    if weights is not None:
        compat.load_checkpoint_file(weights)
    elif not _has_weights(settings):
        raise ValueError("this config needs a checkpoint: name it behind the config")


def resolve_device(device: str | torch.device | None) -> torch.device:
    """The device meant, CUDA where none is named and there is one.

    Raises:
        ValueError: No such device, or CUDA is asked for and there is none.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        # Numbers are devices of torch's, and True is one.
        resolved = torch.device(device) if isinstance(device, str | torch.device) else None
    except RuntimeError:
        resolved = None
    if resolved is None or resolved.type not in ("cpu", "cuda"):
        raise ValueError(f'device {device!r:.80} is unknown: use "cpu", "cuda" or "cuda:0"')
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {str(device)!r} is asked for, but torch finds no CUDA: use cpu")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {str(device)!r} is asked for, but torch finds "
            f"{torch.cuda.device_count()} CUDA device(s), counted from cuda:0"
        )
    return resolved


def _bundled(
    weights: str | os.PathLike | None, encoder: str | os.PathLike | None
) -> tuple[Config, Path]:
    if weights is not None or encoder is not None:
        raise ValueError("weights and encoder belong to a model: give its config file too")
    if not (BUNDLED / "detector.pth").is_file():
        raise ValueError(f"the bundled model is missing from {BUNDLED}: install again")
    cfg = Config.fromfile(BUNDLED / "config.py")
    cfg.model.vocabulary = str(BUNDLED / "vocabulary.json")
    cfg.model.backbone.encoder = str(BUNDLED / "encoder")
    return cfg, BUNDLED / "detector.pth"


def _find_beside(settings: Any, filename: str | None) -> None:
    """Complete names of files that lie beside the config, of what competes and the calibration."""
    test_cfg = settings.get("test_cfg") if isinstance(settings, Mapping) else None
    if filename is None or not isinstance(test_cfg, Mapping):
        return

    def found(name: Any, needed: bool = False) -> Any:
        beside = Path(filename).parent / name if isinstance(name, str) and name else None
        return str(beside) if beside is not None and (needed or beside.is_file()) else name

    if "calibration" in test_cfg:
        test_cfg["calibration"] = found(test_cfg["calibration"], needed=True)
    negatives = test_cfg.get("negatives")
    if isinstance(negatives, Mapping):
        for key in ("attributes", "region_bank"):
            if key in negatives:
                negatives[key] = found(negatives[key])
        if isinstance(negatives.get("vocabularies"), list | tuple):
            # Others are words, such as "coco".
            negatives["vocabularies"] = [found(name) for name in negatives["vocabularies"]]


def _read_config(model: str | os.PathLike | Config) -> Config:
    if isinstance(model, Config):
        return copy.deepcopy(model)
    check_path(model, "model")
    return read_config_file(preset_path(model))


def _class_of(settings: Any, name: str) -> type[OpenVocabDetector]:
    """The class that a config names, itself or by what it is registered as."""
    named = settings.get("type") if isinstance(settings, Mapping) else settings
    found = MODELS.get(named) if isinstance(named, str) else named
    if not isinstance(found, type) or not issubclass(found, OpenVocabDetector):
        told = getattr(named, "__name__", named)
        raise ValueError(
            f"config {name} describes a model of type {told!r:.80}: give the config of an "
            "OpenVocabTwoStageDetector or a class made from it, or wrap the detector in an "
            "OpenVocabWrapper"
        )
    return found


def _has_weights(settings: Mapping) -> bool:
    """Whether a model brings its weights, or its config says where they are."""
    if settings.get("detector_checkpoint") is not None:
        return True
    return "detector" in settings and brings_weights(settings["detector"])


def _build(cls: type[OpenVocabDetector], cfg: ConfigDict) -> OpenVocabDetector:
    values = {key: value for key, value in cfg.items() if key not in ("type", "train_cfg")}
    try:
        return revert_sync_batchnorm(cls(**values))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"the config's model cannot be built ({error}): mend the config"
        ) from error


def _load_weights(detector: OpenVocabDetector, path: str | os.PathLike) -> None:
    checkpoint = compat.load_checkpoint_file(path)
    try:
        detector.load_state_dict(checkpoint.get("state_dict", checkpoint), strict=True)
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(
            f"checkpoint {str(path)!r} does not go with this config, give the one trained with it: "
            f"{error}"
        ) from None


def _test_pipeline(cfg: Config) -> Compose:
    """The config's test pipeline behind the loading of pictures and boxes."""
    try:
        steps = cfg.test_dataloader.dataset.pipeline
    except AttributeError:
        raise ValueError("the config lacks test_dataloader.dataset.pipeline: add it") from None
    kept = [step for step in steps if not str(step["type"]).startswith("Load")]
    if len(kept) == len(steps):
        raise ValueError("the config's test pipeline does not begin with LoadImageFromFile")
    # What stands behind the loader may ask for float pixels, as `RandomCenterCropPad` does.
    as_float = any(step.get("to_float32", False) for step in steps if step not in kept)
    return Compose([_to_float32, *kept] if as_float else kept)


def _to_float32(results: dict) -> dict:
    return {**results, "img": results["img"].astype(np.float32)}
