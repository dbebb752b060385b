# Deformable DETR with iterative bounding box refinement: 46.2 AP.
_base_ = './deformable_detr_r50.py'

model = dict(head=dict(shared=False, refine='iterative'))
