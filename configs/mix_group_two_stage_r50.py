# A mix: two-stage Deformable DETR trained with 11 groups of queries, as in Group DETR; each group
# selects its queries by proposals of its own. Not published, not trained on COCO.
_base_ = './deformable_detr_two_stage_r50.py'

model = dict(
    branches=[dict(type='GroupQueries', groups=11, separate=True)], head=dict(encoder=11))
