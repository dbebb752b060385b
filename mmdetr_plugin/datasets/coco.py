"""mmdet's COCO data set, with annotations repaired in memory and images that are checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO

from ..registry import DATASETS
from .annotations import read_category_names, read_coco
from .image_loading import checked_step


class RepairedCoco(COCO):
    """pycocotools' index of a file that :func:`.annotations.read_repaired` reads.

    Args:
        annotation_file: None = an empty index.
    """

    def __init__(self, annotation_file: str | Path | None = None) -> None:
        super().__init__(None)
        if annotation_file is not None:
            self.dataset = read_coco(annotation_file, annotated=False)
            self.createIndex()
            self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs


@DATASETS.register_module()
class CheckedCocoDataset(CocoDataset):
    """mmdet's `CocoDataset` for files as annotation tools write them.

    Annotations are repaired in memory, see :func:`.repairs.repair`. Images are loaded by
    :class:`.image_loading.LoadImage`, where the pipeline states mmcv's ``LoadImageFromFile``.
    `tools/train.py` and `tools/test.py` take this class where a config states `CocoDataset`.

    Args:
        args, kwargs: of `CocoDataset`. With ``metainfo=dict(classes=None)`` the classes are those of
            the annotation file.
        pipeline: of `CocoDataset`.

    Raises:
        FileNotFoundError: there is no such annotation file.
        ValueError: the file is not COCO, two annotations have one id, or no image is left after
            filtering.
    """

    COCOAPI = RepairedCoco

    def __init__(self, *args: Any, pipeline: list[Any] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, pipeline=[checked_step(step) for step in pipeline or []], **kwargs)

    def full_init(self) -> None:
        local = self.ann_file and '://' not in self.ann_file
        if local and not Path(self.ann_file).is_file():
            raise FileNotFoundError(
                f'the annotations must be at {Path(self.ann_file).absolute()}, but there is no such '
                'file; name the folder in each data set (train_dataloader.dataset.data_root=FOLDER/), '
                'or take the config that training left in its work dir'
            )
        if local and self._metainfo.get('classes') is None:
            self._metainfo['classes'] = read_category_names(self.ann_file, annotated=False)
        try:
            super().full_init()
        except AssertionError as error:
            if 'not unique' not in str(error):
                raise
            raise ValueError(
                f'the ids of annotations in {self.ann_file} must be unique, got: {error}; give them '
                'new ids, as a merge of files must do'
            ) from error

    def filter_data(self) -> list[dict]:
        kept = super().filter_data()
        if not kept:
            raise ValueError(
                f'no image of {self.ann_file} is left of {len(self.data_list)}: '
                f'filter_cfg={self.filter_cfg} left out all; tools/check_dataset.py shows what is wrong'
            )
        return kept
