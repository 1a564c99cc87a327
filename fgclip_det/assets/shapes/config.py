custom_imports = dict(
    allow_failed_imports=False,
    imports=[
        'fgclip_det.models',
        'fgclip_det.datasets',
        'fgclip_det.evaluation',
    ])
model = dict(
    backbone=dict(
        encoder='encoder', out_indices=(
            -3,
            -2,
            -1,
        ), type='FGCLIPViT'),
    data_preprocessor=dict(bgr_to_rgb=True, type='DetDataPreprocessor'),
    neck=dict(
        norm_cfg=dict(requires_grad=True, type='BN'),
        num_outs=3,
        out_channels=64,
        scales=(
            2,
            1,
            0.5,
        ),
        type='ViTFeaturePyramid'),
    roi_head=dict(
        bbox_head=dict(
            background_weight=0.6,
            bbox_coder=dict(
                target_means=[
                    0.0,
                    0.0,
                    0.0,
                    0.0,
                ],
                target_stds=[
                    0.1,
                    0.1,
                    0.2,
                    0.2,
                ],
                type='DeltaXYWHBBoxCoder'),
            conv_out_channels=64,
            fc_out_channels=128,
            loss_bbox=dict(loss_weight=1.0, type='L1Loss'),
            loss_weight=1.0,
            norm_cfg=dict(requires_grad=True, type='BN'),
            num_cls_fcs=0,
            num_reg_fcs=0,
            num_shared_convs=1,
            num_shared_fcs=1,
            temperature=50.0,
            type='OpenVocabBBoxHead'),
        bbox_roi_extractor=dict(
            finest_scale=24, output_size=5, type='RoIAlignExtractor'),
        region_embedding_boxes='proposals',
        type='OpenVocabRoIHead'),
    rpn_head=dict(
        anchor_generator=dict(
            ratios=[
                0.5,
                1.0,
                2.0,
            ], scales=[
                8,
            ], type='AnchorGenerator'),
        bbox_coder=dict(
            target_means=[
                0.0,
                0.0,
                0.0,
                0.0,
            ],
            target_stds=[
                1.0,
                1.0,
                1.0,
                1.0,
            ],
            type='DeltaXYWHBBoxCoder'),
        loss_bbox=dict(loss_weight=1.0, type='L1Loss'),
        loss_cls=dict(
            loss_weight=1.0, type='CrossEntropyLoss', use_sigmoid=True),
        num_convs=1,
        type='Float32RPNHead'),
    test_cfg=dict(
        calibration='calibration.json',
        negatives=dict(
            attributes='attributes.json',
            max_cosine=1.0,
            vocabularies=[
                'vocabulary.json',
            ],
            wording='a {}'),
        rcnn=dict(
            alpha=0.1,
            beta=0.8,
            max_per_img=100,
            nms=dict(class_agnostic=False, iou_threshold=0.4),
            score_thr=0.01,
            vlm_temperature=75.0),
        rpn=dict(
            max_per_img=100,
            min_bbox_size=0,
            nms=dict(iou_threshold=0.7, type='nms'),
            nms_pre=200)),
    train_cfg=dict(
        rcnn=dict(
            assigner=dict(
                ignore_iof_thr=-1,
                match_low_quality=False,
                min_pos_iou=0.5,
                neg_iou_thr=0.5,
                pos_iou_thr=0.5,
                type='MaxIoUAssigner'),
            sampler=dict(
                add_gt_as_proposals=True,
                neg_pos_ub=-1,
                num=32,
                pos_fraction=0.25,
                type='RandomSampler')),
        rpn=dict(
            allowed_border=-1,
            assigner=dict(
                ignore_iof_thr=-1,
                match_low_quality=True,
                min_pos_iou=0.3,
                neg_iou_thr=0.3,
                pos_iou_thr=0.7,
                type='MaxIoUAssigner'),
            debug=False,
            pos_weight=-1,
            sampler=dict(
                add_gt_as_proposals=False,
                neg_pos_ub=-1,
                num=64,
                pos_fraction=0.5,
                type='RandomSampler')),
        rpn_proposal=dict(
            max_per_img=100,
            min_bbox_size=0,
            nms=dict(iou_threshold=0.7, type='nms'),
            nms_pre=200)),
    type='OpenVocabTwoStageDetector',
    vocabulary='vocabulary.json')
test_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='LoadImageFromFile'),
        dict(keep_ratio=True, scale=(
            128,
            128,
        ), type='Resize'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(
            meta_keys=(
                'img_id',
                'img_path',
                'ori_shape',
                'img_shape',
                'scale_factor',
            ),
            type='PackDetInputs'),
    ]))
