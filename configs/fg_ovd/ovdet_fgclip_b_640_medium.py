# As ovdet_fgclip_b_640_hard.py, on the medium subset.
_base_ = "ovdet_fgclip_b_640_hard.py"

annotations = "data/fg_ovd/2_attributes.json"
test_dataloader = dict(dataset=dict(ann_file=annotations))
test_evaluator = dict(ann_file=annotations)
