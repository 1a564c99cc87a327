# All weights of FG-CLIP-L on FineHARD.
_base_ = "fgclip_b_full.py"

encoder = "qihoo360/fg-clip-large"
model = dict(encoder=encoder)
train_dataloader = dict(dataset=dict(image_size=336, tokenizer=encoder))
work_dir = "work_dirs/finetune_fgclip_l_full"
