# RF-DETR-small (arXiv:2511.09554): 53.0 AP at 512 x 512. The schedule has the defaults of the package
# `rfdetr`; the one of the published weights is not published.
_base_ = ['./_base_/models/rf_detr.py', './_base_/coco_square_100e.py']

model = dict(num_classes=80)
