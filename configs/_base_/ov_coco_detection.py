# OV-COCO, 65-way protocol (tools/prepare_ov_coco.py makes the files): base annotations to train,
# base and novel ones to test. Large-scale jitter in training. The model's data_preprocessor pads to
# squares of this size, with the mean pixel.
dataset_type = "OVCocoDataset"
data_root = "data/coco/"
image_size = (640, 640)
batch_size = 8
num_workers = 4

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomResize", scale=image_size, ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(
        type="RandomCrop",
        crop_size=image_size,
        crop_type="absolute",
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1e-2, 1e-2), keep_empty=False),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=image_size, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type=dataset_type,
        vocabulary="ov_coco",
        classes="base",
        data_root=data_root,
        ann_file="annotations/ov_coco_65_train.json",
        data_prefix=dict(img="train2017/"),
        check_images=True,
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type=dataset_type,
        vocabulary="ov_coco",
        classes="all",
        data_root=data_root,
        ann_file="annotations/ov_coco_65_val.json",
        data_prefix=dict(img="val2017/"),
        check_images=True,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type="OVCocoMetric",
    protocol="65",
    ann_file=data_root + "annotations/ov_coco_65_val.json",
)
test_evaluator = val_evaluator
