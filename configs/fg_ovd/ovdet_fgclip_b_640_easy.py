# As ovdet_fgclip_b_640_hard.py, on the easy subset.
_base_ = "ovdet_fgclip_b_640_hard.py"

annotations = "data/fg_ovd/3_attributes.json"
test_dataloader = dict(dataset=dict(ann_file=annotations))
test_evaluator = dict(ann_file=annotations)
