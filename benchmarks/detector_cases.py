"""Cases of the benchmarks of whole detectors: a config's detector, and a batch for it."""

from __future__ import annotations

import contextlib
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed

from benchmarks import full_size_step
from benchmarks.plain_recipe import make_plain
from fgclip_det.compat import load_checkpoint_file
from fgclip_det.datasets import OVCocoDataset
from fgclip_det.datasets.shapes.generator import generate
from fgclip_det.engine import read_config
from fgclip_det.models import OpenVocabTwoStageDetector
from fgclip_det.vocabulary import Vocabulary

ROOT = Path(__file__).resolve().parents[1]
BUNDLED = ROOT / "fgclip_det" / "assets" / "shapes"
RECIPES = ("ours", "plain")


@dataclass(frozen=True)
class Case:
    """A detector and how much it is given.

    Attributes:
        name: Of the command line.
        label: Of the tables.
        config: The config, below the folder of the configs.
        images: Pictures of a batch.
        rounds: At most so many rounds; None takes the command line's.
    """

    name: str
    label: str
    config: str
    images: int
    rounds: int | None = None


SHAPES = Case("shapes", "Shapes, 128 x 128, batch of 16", "shapes/ovdet_tiny.py", 16)
CASES = (
    SHAPES,
    Case(
        "b_640",
        "FG-CLIP-B, 640 x 640, batch of 1, random weights",
        "ov_coco/ovdet_fgclip_b_640_3e_ov_coco.py",
        1,
        rounds=3,
    ),
)
QUICK = Case("shapes", "Shapes, 128 x 128, batch of 2", SHAPES.config, 2)


def cases_of(names: str, quick: bool) -> list[Case]:
    """The cases with these names, separated by commas.

    Raises:
        ValueError: A name that is none.
    """
    known = {case.name: case for case in ((QUICK,) if quick else CASES)}
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in known:
            raise ValueError(f"--cases has no {name!r}; choose from {','.join(known)}")
    return [known[name] for name in wanted]


class Workbench:
    """The detectors of a case, with equal weights, and batches for them.

    Detectors are built when first asked for, so that a process that measures memory builds one.

    Args:
        case: What to build.
        device: "cpu" or "cuda".
        seed: Of weights, where they are random, of pictures and of whatever is drawn later.
    """

    def __init__(self, case: Case, device: str, seed: int) -> None:
        self.case, self.device, self.seed = case, device, seed
        # It would list how each parameter is initialised.
        MMLogger.get_instance("mmengine").setLevel("WARNING")
        init_default_scope("mmdet")
        self._folder = tempfile.TemporaryDirectory()
        self.folder = Path(self._folder.name)
        self.config = read_config(str(ROOT / "configs" / case.config))
        if case.name == SHAPES.name:
            # Its bars of a fifth of a second would stand between the benchmark's own.
            with contextlib.redirect_stderr(io.StringIO()):
                generate(self.folder, {"train": case.images, "val": case.images}, seed)
        else:
            set_random_seed(seed)
            names = Vocabulary.parse("ov_coco").names
            full_size_step.write_random_encoder("base", self.folder, names)

    def close(self) -> None:
        """Remove the files that the detectors were built from."""
        self._folder.cleanup()

    def build(self, recipe: str) -> OpenVocabTwoStageDetector:
        """The detector by "ours" or "plain", in train mode."""
        config = Config(self.config.to_dict())
        if recipe == "plain":
            make_plain(config)
        set_random_seed(self.seed)
        if self.case.name != SHAPES.name:
            return full_size_step.build_detector(config, self.folder).to(self.device)
        config.model.backbone.encoder = str(BUNDLED / "encoder")
        config.model.vocabulary = str(BUNDLED / "vocabulary.json")
        detector = MODELS.build(config.model)
        weights = load_checkpoint_file(BUNDLED / "detector.pth")["state_dict"]
        detector.load_state_dict(weights)
        return detector.train().to(self.device)

    def batch(self, training: bool) -> dict:
        """A batch as the data loader gives it, of uint8 pixels, on the CPU."""
        set_random_seed(self.seed)
        if self.case.name != SHAPES.name:
            side = self.config.model.data_preprocessor.pad_size_divisor
            return full_size_step.make_batch(side, len(Vocabulary.parse("ov_coco").base_classes))
        loader = self.config.train_dataloader if training else self.config.val_dataloader
        files = {"data_root": str(self.folder), "vocabulary": str(BUNDLED / "vocabulary.json")}
        # pycocotools tells each step of reading a file.
        with contextlib.redirect_stdout(io.StringIO()):
            dataset: OVCocoDataset = DATASETS.build({**loader.dataset, **files})
        return pseudo_collate([dataset[index] for index in range(self.case.images)])
