# All weights of the bundled encoder, tuned on captions with one attribute swapped.
# python tools/prepare_shapes.py && python tools/train.py configs/finetune/shapes_tiny_full.py
custom_imports = dict(
    imports=["fgclip_det.pretrain", "fgclip_det.datasets", "fgclip_det.engine"],
    allow_failed_imports=False,
)
default_scope = "mmdet"

data_root = "data/shapes/"
batch_size = 8
max_iters = 64
warmup_iters = 8
base_lr = 1e-5

model = dict(
    type="FGCLIPPretrainer",
    encoder="fgclip_det/assets/shapes/encoder",
    # FG-OVD has no captions of whole pictures.
    weight_long=0.0,
    weight_short=0.0,
    weight_region=1.0,
    weight_hard=1.0,
)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    collate_fn=dict(type="collate_region_captions"),
    dataset=dict(
        type="FGOVDDataset",
        ann_file=data_root + "fg_ovd/train_1_attributes.json",
        data_prefix=dict(img=data_root),
        n_negatives=10,
        test_mode=False,
        pipeline=[dict(type="LoadImageFromFile"), dict(type="PackRegionCaptions")],
    ),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters + 1)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=base_lr, betas=(0.9, 0.98), weight_decay=0.001),
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
    logger=dict(type="LoggerHook", interval=8),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=max_iters),
)
custom_hooks = [dict(type="ExportEncoderHook", directory="encoder")]
log_processor = dict(by_epoch=False, window_size=8)
randomness = dict(seed=0)
work_dir = "work_dirs/finetune_shapes_full"
