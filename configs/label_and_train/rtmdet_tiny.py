# A small closed-set detector for what `fgclip-det label --format coco` wrote: MMDetection's
# RTMDet-tiny, a third narrower, from random weights, for small pictures and two cores.
# docs/label_and_train.md tells what to set, and what to change for photographs.
_base_ = "mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py"
custom_imports = dict(
    imports=["fgclip_det.datasets", "fgclip_det.evaluation", "fgclip_det.engine"],
    allow_failed_imports=False,
)
runner_type = "ResumableRunner"

data_root = "data/labels/"
# As many as names were asked for; in the order of this file.
num_classes = 12
vocabulary = data_root + "vocabulary.json"
images = ""
train_file = data_root + "coco/annotations/train.json"
# The boxes that the student is tested on: of a person, where there are any.
val_images = ""
val_file = data_root + "coco/annotations/val.json"
image_size = (128, 128)
batch_size = 32
num_workers = 0
max_epochs = 12
base_lr = 4e-3
norm_cfg = dict(type="BN")

model = dict(
    backbone=dict(widen_factor=0.25, norm_cfg=norm_cfg, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256], out_channels=64, norm_cfg=norm_cfg),
    bbox_head=dict(num_classes=num_classes, in_channels=64, feat_channels=64, norm_cfg=norm_cfg),
    test_cfg=dict(nms_pre=1000, max_per_img=100),
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=image_size, keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="Pad", size=image_size, pad_val=dict(img=(114, 114, 114))),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=image_size, keep_ratio=True),
    dict(type="Pad", size=image_size, pad_val=dict(img=(114, 114, 114))),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
train_dataloader = dict(
    _delete_=True,
    batch_size=batch_size,
    num_workers=num_workers,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="OVCocoDataset",
        vocabulary=vocabulary,
        ann_file=train_file,
        data_prefix=dict(img=images),
        check_images=True,
        # A picture in which nothing was found says as much as one with boxes.
        filter_cfg=dict(filter_empty_gt=False),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    _delete_=True,
    batch_size=batch_size,
    num_workers=num_workers,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="OVCocoDataset",
        vocabulary=vocabulary,
        ann_file=val_file,
        data_prefix=dict(img=val_images),
        check_images=True,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type="OVCocoMetric", ann_file=val_file)
test_evaluator = val_evaluator

train_cfg = dict(
    _delete_=True, type="EpochBasedTrainLoop", max_epochs=max_epochs, val_interval=max_epochs
)
optim_wrapper = dict(optimizer=dict(lr=base_lr), clip_grad=dict(max_norm=10.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type="CosineAnnealingLR",
        by_epoch=True,
        convert_to_iter_based=True,
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        eta_min_ratio=0.02,
    ),
]
default_hooks = dict(
    checkpoint=dict(interval=max_epochs, max_keep_ckpts=1),
    visualization=dict(_delete_=True, type="LogPicturesHook", draw=True, pictures=8),
)
randomness = dict(seed=0)
custom_hooks = []
# The base's, which reads a file of COCO's that is not needed here.
tta_model = None
tta_pipeline = None
