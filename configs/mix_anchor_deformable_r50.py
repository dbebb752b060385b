# A mix: the anchor points and patterns of Anchor DETR, coded by the perceptron that codes the feature
# maps, read four levels by deformable attention. Not published, not trained on COCO.
_base_ = ['./_base_/models/deformable_attention.py', './_base_/coco_deformable_50e.py']

model = dict(
    num_classes=80,
    position=dict(type='AnchorPosition', axis_codes=False),
    queries=dict(type='AnchorQueries', num_queries=300, num_patterns=3),
    head=dict(wh_bias=-2.0))
