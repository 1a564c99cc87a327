# FG-CLIP-B on OV-LVIS, with a class-agnostic mask head.
_base_ = [
    "../_base_/ov_lvis_detection.py",
    "../_base_/ovdet_fgclip.py",
    "../_base_/schedule_ov_lvis.py",
    "../_base_/default_runtime.py",
]

model = dict(
    vocabulary=dict(names={{_base_.vocabulary}}),
    text_cache_dir="work_dirs/text_embeddings",
    data_preprocessor=dict(pad_size_divisor=1024, pad_mask=True),
    roi_head=dict(
        type="OpenVocabMaskRoIHead",
        bbox_head=dict(background_weight=0.9),
        mask_roi_extractor=dict(type="RoIAlignExtractor", output_size=14),
        mask_head=dict(
            type="FCNMaskHead",
            num_convs=4,
            conv_out_channels=256,
            class_agnostic=True,
            loss_mask=dict(type="CrossEntropyLoss", use_mask=True, loss_weight=1.0),
        ),
    ),
    train_cfg=dict(rcnn=dict(mask_size=28)),
    test_cfg=dict(
        rcnn=dict(
            alpha=0.1,
            beta=0.6,
            vlm_temperature=50.0,
            score_thr=1e-4,
            nms=dict(iou_threshold=0.5),
            max_per_img=300,
            mask_thr_binary=0.5,
        )
    ),
)
