"""Trains a tiny pretrainer on two processes, sharded or not; run by `test_fully_sharded.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from mmdet.registry import DATASETS
from mmengine.config import Config

import fgclip_det.datasets
import fgclip_det.pretrain  # noqa: F401  (registers)
from fgclip_det.engine import ResumableRunner
from fgclip_det.exit_codes import leave
from tests.tiny_encoders import NAMES

STEPS = 4
WRAPPERS = {"sharded": dict(type="FullyShardedModel"), "copied": None}


@DATASETS.register_module()
class RandomPictures(torch.utils.data.Dataset):
    """Pictures with none to two regions, each a function of its number."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict:
        generator = torch.Generator().manual_seed(index)
        count = 1 + index % 2
        corners = torch.rand(count, 4, generator=generator) * 24
        captions = [NAMES[(index + k) % len(NAMES)] for k in range(count)]
        return {
            "image": torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8, generator=generator),
            "short_caption": NAMES[index % len(NAMES)],
            "long_caption": NAMES[(index + 1) % len(NAMES)],
            "boxes": corners + torch.tensor([0.0, 0.0, 30.0, 30.0]),
            "region_captions": captions,
            "hard_captions": [[caption, *NAMES[:2]] for caption in captions],
        }


def config(encoder: str, work_dir: Path, wrapper: str, adapters: dict | None) -> Config:
    """Of one run."""
    return Config(
        dict(
            model=dict(
                type="FGCLIP2Pretrainer" if encoder.endswith("2") else "FGCLIPPretrainer",
                encoder=encoder,
                adapters=adapters,
                recompute_activations=wrapper == "sharded",
            ),
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type="DefaultSampler", shuffle=True),
                collate_fn=dict(type="collate_region_captions"),
                dataset=dict(type="RandomPictures"),
            ),
            train_cfg=dict(by_epoch=False, max_iters=STEPS),
            optim_wrapper=dict(
                # Biases of keys have no gradient but rounding, of some 1e-10, which AdamW's own
                # epsilon of 1e-8 would make steps of.
                optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.1, eps=1e-4),
                clip_grad=dict(max_norm=1.0),
            ),
            default_hooks=dict(
                logger=dict(type="LoggerHook", interval=1),
                checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=1),
            ),
            custom_hooks=[dict(type="ExportEncoderHook")],
            log_processor=dict(by_epoch=False),
            randomness=dict(seed=0),
            default_scope="mmdet",
            launcher="pytorch",
            model_wrapper_cfg=WRAPPERS[wrapper],
            work_dir=str(work_dir),
            experiment_name=work_dir.name,
        )
    )


def train(
    encoder: str, work_dir: Path, wrapper: str, adapters=None, resume=None, accumulate: int = 1
) -> None:
    """A run, from the start or from a checkpoint."""
    settings = config(encoder, work_dir, wrapper, adapters)
    settings.optim_wrapper.accumulative_counts = accumulate
    if resume:
        settings.load_from, settings.resume = str(resume), True
    ResumableRunner.from_cfg(settings).train()


def main(rank: int, folder: Path) -> None:
    """All runs of one process."""
    store = f"file://{folder / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    encoder = str(folder / "encoder")
    for wrapper in WRAPPERS:
        train(encoder, folder / wrapper, wrapper)
        torch.distributed.barrier()
    for wrapper, other in (("sharded", "copied"), ("copied", "sharded")):
        resume = folder / other / f"iter_{STEPS // 2}.pth"
        train(encoder, folder / f"{wrapper}_resumed", wrapper, resume=resume)
        adapters = dict(type="lora", rank=4, trained=("logit_scale",))
        train(encoder, folder / f"{wrapper}_adapters", wrapper, adapters)
        train(f"{encoder}2", folder / f"{wrapper}_second", wrapper)
    train(f"{encoder}_hot", folder / "hot", "sharded")
    train(encoder, folder / "accumulated", "sharded", accumulate=2)
    torch.distributed.barrier()
    # Between the two batches of an update.
    resume = folder / "accumulated" / f"iter_{STEPS - 1}.pth"
    train(encoder, folder / "accumulated_resumed", "sharded", resume=resume, accumulate=2)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
    leave(0)
