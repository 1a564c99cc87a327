# FG-CLIP's four objectives on Shapes: makes the bundled encoder.
# python tools/prepare_shapes.py && python tools/train.py configs/shapes/pretrain_fgclip_tiny.py
custom_imports = dict(
    imports=["fgclip_det.pretrain", "fgclip_det.datasets", "fgclip_det.engine"],
    allow_failed_imports=False,
)
default_scope = "mmdet"

data_root = "data/shapes/"
captions = data_root + "annotations/pretrain.jsonl"
batch_size = 32
max_iters = 1800
warmup_iters = 100
base_lr = 1.2e-3

model = dict(
    type="FGCLIPPretrainer",
    encoder=dict(
        vision=dict(
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            image_size=128,
            patch_size=8,
            hidden_act="gelu",
        ),
        text=dict(
            vocab_size=768,
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            hidden_act="gelu",
        ),
        projection_dim=128,
    ),
    tokenizer_captions=captions,
    # The paper weighs regions by 0.1 and hard negatives by 0.5 when it starts from a trained
    # CLIP; from random weights the regions are what the towers learn from.
    weight_long=0.25,
    weight_short=0.25,
    weight_region=1.0,
    weight_hard=1.0,
    # One process or several: a region meets those of the whole batch.
    gather_regions=True,
)

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    collate_fn=dict(type="collate_region_captions"),
    dataset=dict(type="RegionCaptionDataset", ann_file=captions, image_root=data_root + "pretrain"),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters + 1)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=base_lr, betas=(0.9, 0.98), weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=warmup_iters),
    dict(
        type="CosineAnnealingLR",
        T_max=max_iters - warmup_iters,
        eta_min_ratio=0.01,
        by_epoch=False,
        begin=warmup_iters,
        end=max_iters,
    ),
]
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=20),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=500, max_keep_ckpts=1),
)
# Half precision: what a detector is trained on is then exactly what is bundled with it.
custom_hooks = [dict(type="ExportEncoderHook", directory="encoder", interval=500, dtype="float16")]
log_processor = dict(by_epoch=False, window_size=20)
randomness = dict(seed=0)
work_dir = "work_dirs/shapes_pretrain"
