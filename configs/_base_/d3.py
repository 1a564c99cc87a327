# D³ (arXiv 2307.12813): full, presence and absence from one pass. The files lie as its authors
# packed them: d3_images, d3_json, d3_pkl. A config takes them as configs/d3/photos.py does.
d3_root = "data/d3/"
d3_dataloader = dict(
    batch_size=1,
    num_workers=0,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="D3Dataset",
        # The published protocol: each picture is asked the sentences of its own group.
        protocol="intra",
        data_root=d3_root,
        ann_file="d3_json/d3_full_annotations.json",
        data_prefix=dict(img="d3_images/", anno="d3_pkl/"),
        test_mode=True,
        pipeline=[
            dict(type="LoadImageFromFile", backend_args=None),
            dict(
                type="PackDetInputs",
                meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "text", "sent_ids"),
            ),
        ],
    ),
)
d3_evaluator = [
    dict(
        type="D3Metric",
        ann_file=d3_root + "d3_json/d3_" + part + "_annotations.json",
        prefix=part,
    )
    for part in ("full", "pres", "abs")
]
