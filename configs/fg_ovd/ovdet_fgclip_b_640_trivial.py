# As ovdet_fgclip_b_640_hard.py, on the trivial subset.
_base_ = "ovdet_fgclip_b_640_hard.py"

annotations = "data/fg_ovd/shuffle_negatives.json"
test_dataloader = dict(dataset=dict(ann_file=annotations))
test_evaluator = dict(ann_file=annotations)
