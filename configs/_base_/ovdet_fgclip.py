# F-ViT's recipe (CLIPSelf, arXiv 2310.01403) on FG-CLIP-B with OV-COCO's settings. Sizes that the
# encoder decides (channels, strides, pixel mean and deviation) are asked from it.
encoder = "qihoo360/fg-clip-base"
norm_cfg = dict(type="SyncBN", requires_grad=True)

model = dict(
    type="OpenVocabTwoStageDetector",
    vocabulary=dict(names="ov_coco", templates="photos"),
    data_preprocessor=dict(type="DetDataPreprocessor", bgr_to_rgb=True),
    backbone=dict(type="FGCLIPViT", encoder=encoder, out_indices=(3, 5, 7, 11)),
    neck=dict(
        type="ViTFeaturePyramid",
        out_channels=256,
        scales=(4, 2, 1, 0.5),
        num_outs=5,
        norm_cfg=norm_cfg,
    ),
    rpn_head=dict(
        type="Float32RPNHead",
        num_convs=2,
        anchor_generator=dict(type="AnchorGenerator", scales=[8], ratios=[0.5, 1.0, 2.0]),
        bbox_coder=dict(
            type="DeltaXYWHBBoxCoder",
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[1.0, 1.0, 1.0, 1.0],
        ),
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type="L1Loss", loss_weight=1.0),
    ),
    roi_head=dict(
        type="OpenVocabRoIHead",
        region_embedding_boxes="proposals",
        bbox_roi_extractor=dict(type="RoIAlignExtractor", output_size=7, finest_scale=56),
        bbox_head=dict(
            type="OpenVocabBBoxHead",
            num_shared_convs=4,
            conv_out_channels=256,
            num_shared_fcs=2,
            num_cls_fcs=1,
            num_reg_fcs=1,
            # None: the width of the space of the texts, 512 for B and 768 for L.
            fc_out_channels=None,
            norm_cfg=norm_cfg,
            temperature=50.0,
            background_weight=0.6,
            loss_weight=1.0,
            bbox_coder=dict(
                type="DeltaXYWHBBoxCoder",
                target_means=[0.0, 0.0, 0.0, 0.0],
                target_stds=[0.1, 0.1, 0.2, 0.2],
            ),
            loss_bbox=dict(type="L1Loss", loss_weight=1.0),
        ),
    ),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(
                type="MaxIoUAssigner",
                pos_iou_thr=0.7,
                neg_iou_thr=0.3,
                min_pos_iou=0.3,
                match_low_quality=True,
                ignore_iof_thr=-1,
            ),
            sampler=dict(
                type="RandomSampler",
                num=256,
                pos_fraction=0.5,
                neg_pos_ub=-1,
                add_gt_as_proposals=False,
            ),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        rpn_proposal=dict(
            nms_pre=2000,
            max_per_img=1000,
            nms=dict(type="nms", iou_threshold=0.7),
            min_bbox_size=0,
        ),
        rcnn=dict(
            assigner=dict(
                type="MaxIoUAssigner",
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.5,
                match_low_quality=False,
                ignore_iof_thr=-1,
            ),
            sampler=dict(
                type="RandomSampler",
                num=512,
                pos_fraction=0.25,
                neg_pos_ub=-1,
                add_gt_as_proposals=True,
            ),
        ),
    ),
    test_cfg=dict(
        rpn=dict(
            nms_pre=2000,
            max_per_img=1000,
            nms=dict(type="nms", iou_threshold=0.7),
            min_bbox_size=0,
        ),
        rcnn=dict(
            alpha=0.1,
            beta=0.8,
            vlm_temperature=75.0,
            score_thr=0.01,
            nms=dict(iou_threshold=0.4, class_agnostic=False),
            max_per_img=100,
        ),
    ),
)
