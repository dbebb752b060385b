# A mix: the anchor points and patterns of Anchor DETR, coded by the perceptron that codes the feature
# maps, read four levels by deformable attention. Not published, not trained on COCO.
_base_ = './deformable_detr_r50.py'

model = dict(
    position=dict(_delete_=True, type='AnchorPosition', axis_codes=False, level_embed=4),
    queries=dict(_delete_=True, type='AnchorQueries', num_queries=300, num_patterns=3))
