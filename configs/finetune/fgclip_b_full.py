# All weights of FG-CLIP-B on FineHARD, 8 GPUs:
# tools/dist_train.sh configs/finetune/fgclip_b_full.py 8
_base_ = ["../_base_/objectives_fgclip.py", "../_base_/finehard.py"]

encoder = "qihoo360/fg-clip-base"
model = dict(encoder=encoder, recompute_activations=True)
train_dataloader = dict(dataset=dict(generation=1, image_size=224, tokenizer=encoder))
work_dir = "work_dirs/finetune_fgclip_b_full"
