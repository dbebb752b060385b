"""Prediction on pictures: the Python door, `tools/predict.py` and mmdet's own functions."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import cv2
import mmcv
import mmengine
import numpy as np
import pytest
import tiny
import tiny_run
import torch
from cli import TOOLS, load, run
from mmengine.config import Config
from PIL import Image
from pycocotools.coco import COCO

import mmdetr_plugin
from mmdetr_plugin.checkpoints.class_names import THING_IDS
from mmdetr_plugin.datasets import read_segment_ids
from mmdetr_plugin.inference import ImageDetections, Predictor
from mmdetr_plugin.inference.coco import category_ids
from mmdetr_plugin.registry import MODELS

PREDICT = load(TOOLS / 'predict.py')


@pytest.fixture(scope='module')
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What training leaves: a config `run.py`, a checkpoint `epoch_1.pth`; and the data."""
    folder = tmp_path_factory.mktemp('run')
    cfg = tiny_run.config(tiny_run.make_data(folder / 'data'), folder / 'work', epochs=1)
    tiny_run.train(cfg, 'inference')
    cfg.dump(folder / 'run.py')
    shutil.copy2(folder / 'work' / 'epoch_1.pth', folder)
    return folder


@pytest.fixture(scope='module')
def picture(run_dir: Path) -> Path:
    """A picture without loss: PNG."""
    source = min((run_dir / 'data' / 'val').iterdir())
    mmcv.imwrite(mmcv.imread(str(source)), str(run_dir / 'pictures' / 'one.png'))
    return run_dir / 'pictures' / 'one.png'


@pytest.fixture(scope='module')
def model(run_dir: Path) -> Predictor:
    return mmdetr_plugin.load(run_dir / 'run.py', run_dir / 'epoch_1.pth', device='cpu')


@pytest.fixture(scope='module')
def panoptic(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Config and checkpoint of a panoptic model that finds segments in anything."""
    folder = tmp_path_factory.mktemp('panoptic')
    cfg = tiny.load('detr_panoptic_r50')
    cfg.model = tiny.shrink(cfg.model, num_classes=133)
    cfg.model.test_cfg.score_thr = 0.0
    cfg.dump(folder / 'panoptic.py')
    torch.manual_seed(0)
    made = tiny.randomise_(MODELS.build(cfg.model))
    with torch.no_grad():
        for branch in made.head.class_branches:
            branch.bias[-1] -= 20  # no-object
    torch.save(made.state_dict(), folder / 'panoptic.pth')
    return folder / 'panoptic.py', folder / 'panoptic.pth'


def same(ours: ImageDetections, theirs: ImageDetections) -> bool:
    values = zip(
        (ours.boxes, ours.scores, ours.labels), (theirs.boxes, theirs.scores, theirs.labels)
    )
    return len(ours) > 0 and all(np.array_equal(one, other) for one, other in values)


# ---- from Python ----------------------------------------------------------------------------------


def test_inputs_of_all_kinds_give_the_same(model: Predictor, picture: Path) -> None:
    opened = Image.open(picture)
    inputs = [picture, str(picture), opened, np.asarray(opened.convert('RGB'))]
    first, *others = model(inputs, score_thr=0.0)
    assert all(same(first, other) for other in others)
    assert same(first, model(picture, score_thr=0.0))
    assert [first.path, others[-1].path] == [str(picture), None]
    assert np.array_equal(first.image, np.asarray(opened.convert('RGB')))


def test_it_is_what_mmdet_finds(model: Predictor, run_dir: Path, picture: Path) -> None:
    from mmdet.apis import inference_detector, init_detector

    detector = init_detector(str(run_dir / 'run.py'), str(run_dir / 'epoch_1.pth'), device='cpu')
    expected = inference_detector(detector, str(picture)).pred_instances
    found = model(picture, score_thr=0.0)
    assert np.array_equal(found.boxes, expected.bboxes.numpy())
    assert np.array_equal(found.scores, expected.scores.numpy())
    assert model.classes == tuple(detector.dataset_meta['classes']) == tuple('0123456789')


def test_options_choose(model: Predictor, picture: Path) -> None:
    every = model(picture, score_thr=0.0)
    threshold = float(np.median(every.scores))
    assert len(model(picture, score_thr=threshold)) == (every.scores >= threshold).sum()
    kept = model(picture, score_thr=0.0, classes=['3', '7'])
    assert set(kept.names) == {'3', '7'}
    assert len(kept) == sum(name in '37' for name in every.names)
    assert model([]) == []
    together = model([picture, picture], score_thr=0.0, batch_size=2)
    assert np.allclose(together[1].boxes, every.boxes, atol=1e-3)
    half = model(picture, score_thr=0.0, amp='bf16')
    assert np.abs(np.sort(half.scores) - np.sort(every.scores)).max() < 0.05
    assert '10 detections' in repr(every) or 'more' in repr(every)


def test_pictures_turned_by_exif_are_turned(
    model: Predictor, picture: Path, tmp_path: Path
) -> None:
    turned = Image.open(picture).convert('RGB')
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.resize((64, 40)).save(tmp_path / 'turned.jpg', exif=exif)
    from_file, opened = model([tmp_path / 'turned.jpg', Image.open(tmp_path / 'turned.jpg')])
    assert from_file.image.shape == opened.image.shape == (64, 40, 3)


def test_drawing_and_json(model: Predictor, picture: Path, tmp_path: Path) -> None:
    found = model(picture, score_thr=0.0)
    drawn = found.plot(tmp_path / 'drawn.png')
    assert drawn.shape == found.image.shape and drawn.dtype == np.uint8
    assert (drawn != found.image).any()
    assert np.array_equal(mmcv.imread(str(tmp_path / 'drawn.png'), channel_order='rgb'), drawn)
    entries = json.loads(json.dumps(found.json()))
    assert [entry['category'] for entry in entries] == found.names
    boxes = np.array([entry['bbox'] for entry in entries])
    assert np.allclose(boxes[:, 2:], found.boxes[:, 2:] - found.boxes[:, :2])
    nothing = model(picture, score_thr=1.0)
    assert (len(nothing), nothing.json()) == (0, [])
    assert np.array_equal(nothing.plot(), nothing.image)


@pytest.mark.parametrize(
    ('image', 'error', 'words'),
    [
        ('absent.jpg', FileNotFoundError, 'no such file'),
        ('.', FileNotFoundError, 'a folder'),
        (np.zeros((3, 8, 8), np.uint8), ValueError, r'\(H, W, 3\)'),
        (np.zeros((8, 8, 3), np.float32), ValueError, 'uint8'),
        (torch.zeros(3, 8, 8), TypeError, 'permute'),
    ],
)
def test_what_is_no_image_is_refused(
    model: Predictor, image: object, error: type, words: str
) -> None:
    with pytest.raises(error, match=words):
        model(image)


def test_options_out_of_range_are_refused(model: Predictor, picture: Path) -> None:
    for options, words in (
        ({'score_thr': 30}, 'score_thr must be in 0..1'),
        ({'classes': ['seven']}, 'names that the model knows'),
        ({'classes': '7'}, 'a list'),
        ({'batch_size': 0}, 'at least 1'),
        ({'amp': 'fp8'}, 'amp must be one of'),
    ):
        with pytest.raises(ValueError, match=words):
            model(picture, **options)


def test_what_does_not_belong_together_is_refused(run_dir: Path) -> None:
    checkpoint = run_dir / 'epoch_1.pth'
    with pytest.raises(ValueError, match='names of all 10 classes'):
        mmdetr_plugin.load(run_dir / 'run.py', checkpoint, classes=['a', 'b'])
    with pytest.raises(ValueError, match=r'epoch_1.pth must be a checkpoint of detr_r50'):
        mmdetr_plugin.load('detr_r50', checkpoint)
    with pytest.raises(FileNotFoundError, match='did you mean detr_r50'):
        mmdetr_plugin.load('detr_r5', checkpoint)
    with pytest.raises(ValueError, match='device must be'):
        mmdetr_plugin.load(run_dir / 'run.py', checkpoint, device='cuda:99')
    with pytest.raises(ValueError, match='tta_pipeline'):
        mmdetr_plugin.load(run_dir / 'run.py', checkpoint, tta=True)


def test_the_number_of_classes_may_be_left_to_the_checkpoint(run_dir: Path, picture: Path) -> None:
    cfg = Config.fromfile(run_dir / 'run.py')
    cfg.model.num_classes = None
    model = mmdetr_plugin.load(cfg, run_dir / 'epoch_1.pth', classes=[f'n{i}' for i in range(10)])
    assert cfg.model.num_classes is None
    assert model(picture, score_thr=0.0).names[0].startswith('n')


@pytest.fixture
def augmented(run_dir: Path) -> Config:
    """The config of the run with test-time augmentation that keeps 7 detections."""
    cfg = Config.fromfile(run_dir / 'run.py')
    load_file, resize, _, pack = cfg.test_dataloader.dataset.pipeline
    pack.meta_keys = (*pack.meta_keys, 'flip', 'flip_direction')
    flips = [dict(type='RandomFlip', prob=prob) for prob in (1.0, 0.0)]
    steps = dict(type='TestTimeAug', transforms=[[resize], flips, [pack]])
    cfg.tta_pipeline = [load_file, steps]
    cfg.tta_model = dict(
        type='mmdet.DetTTAModel',
        tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.6), max_per_img=7),
    )
    return cfg


def test_augmented_prediction_merges(
    run_dir: Path, picture: Path, augmented: Config, tmp_path: Path
) -> None:
    model = mmdetr_plugin.load(augmented, run_dir / 'epoch_1.pth', tta=True)
    assert len(model(picture, score_thr=0.0)) == 7
    augmented.dump(tmp_path / 'run.py')
    words = [picture, tmp_path / 'run.py', run_dir / 'epoch_1.pth', '--out', tmp_path / 'out']
    words += ['--device', 'cpu', '--score-thr', 0, '--tta']
    assert PREDICT.main([str(word) for word in words]) == 0
    document = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
    assert len(document['annotations']) == 7


def test_augmented_predictions_are_evaluated(
    run_dir: Path, augmented: Config, tmp_path: Path
) -> None:
    augmented.dump(tmp_path / 'run.py')
    words = [tmp_path / 'run.py', run_dir / 'epoch_1.pth', '--tta', '--work-dir', tmp_path / 'test']
    load(TOOLS / 'test.py').main([*map(str, words), '--out', str(tmp_path / 'found.pkl')])
    found = mmengine.load(tmp_path / 'found.pkl')
    assert [len(each['pred_instances']['scores']) for each in found] == [7, 7]


def test_categories_have_the_numbers_of_coco() -> None:
    names = mmdetr_plugin.CheckedCocoDataset.METAINFO['classes']
    assert category_ids(names) == THING_IDS
    assert category_ids(names[:3]) == (1, 2, 3)


# ---- the command ----------------------------------------------------------------------------------


def predict(run_dir: Path, source: Path, out: Path, *more: object, code: int = 0) -> None:
    words = [source, run_dir / 'run.py', run_dir / 'epoch_1.pth', '--out', out, '--device', 'cpu']
    assert PREDICT.main([str(word) for word in [*words, *more]]) == code


def refused(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    with pytest.raises(SystemExit) as stop:
        predict(*arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_folder_with_a_broken_file(
    model: Predictor, run_dir: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / 'in'
    (folder / 'deep').mkdir(parents=True)
    shutil.copy2(picture, folder / 'deep' / 'b.png')
    mmcv.imwrite(mmcv.imread(str(picture)), str(folder / 'a.bmp'))
    (folder / 'broken.jpg').write_bytes(b'not an image')
    (folder / 'notes.md').write_text('no image')
    out = folder / 'found'  # inside: its pictures are not read in a second run
    for _ in range(2):
        predict(run_dir, folder, out, '--score-thr', 0.01, '--batch', 2, '--classes', 3, 7)
        captured = capsys.readouterr()
        assert '3/3' in captured.err  # the progress bar
        assert captured.err.count('left out') == 1 and 'broken.jpg must be an image' in captured.err
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob('*') if path.is_file())
    assert files == ['a.bmp.jpg', 'deep/b.png', 'predictions.json']
    coco = COCO(out / 'predictions.json')
    assert [image['file_name'] for image in coco.dataset['images']] == ['a.bmp', 'deep/b.png']
    expected = model(picture, score_thr=0.01, classes=['3', '7'])
    assert len(coco.anns) == 2 * len(expected) > 0
    assert {coco.cats[ann['category_id']]['name'] for ann in coco.anns.values()} <= {'3', '7'}
    assert len(coco.loadRes(coco.dataset['annotations']).anns) == len(coco.anns)


def test_list_of_files(run_dir: Path, picture: Path, tmp_path: Path) -> None:
    (tmp_path / 'a').mkdir()
    shutil.copy2(picture, tmp_path / 'a' / 'one.png')
    (tmp_path / 'list.txt').write_text(f'a/one.png\n\n{picture}\na/one.png\n')
    predict(run_dir, tmp_path / 'list.txt', tmp_path / 'out', '--no-pictures', '--amp')
    images = json.loads((tmp_path / 'out' / 'predictions.json').read_text())['images']
    assert len({image['file_name'] for image in images}) == 2
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['predictions.json']


def test_video(run_dir: Path, picture: Path, tmp_path: Path) -> None:
    frame = mmcv.imread(str(picture))
    size = frame.shape[1::-1]
    writer = cv2.VideoWriter(str(tmp_path / 'clip.avi'), cv2.VideoWriter.fourcc(*'MJPG'), 5.0, size)
    for shift in range(4):
        writer.write(np.roll(frame, 8 * shift, 1))
    writer.release()
    predict(run_dir, tmp_path / 'clip.avi', tmp_path / 'out', '--score-thr', 0.0, '--batch', 3)
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == ['clip.mp4', 'predictions.json']
    drawn = mmcv.VideoReader(str(tmp_path / 'out' / 'clip.mp4'))
    assert (len(drawn), drawn.fps, drawn.resolution) == (4, 5.0, size)
    images = json.loads((tmp_path / 'out' / 'predictions.json').read_text())['images']
    assert [image['frame'] for image in images] == [0, 1, 2, 3]


def test_panoptic_segments(
    panoptic: tuple[Path, Path], picture: Path, tmp_path: Path, run_dir: Path
) -> None:
    config, checkpoint = panoptic
    out = tmp_path / 'out'
    words = [picture, config, checkpoint, '--out', out, '--device', 'cpu', '--score-thr', 0.0]
    assert PREDICT.main([str(word) for word in words]) == 0
    document = json.loads((out / 'panoptic.json').read_text())
    (entry,) = document['annotations']
    ids = read_segment_ids(str(out / 'panoptic' / entry['file_name']))
    areas = {segment['id']: segment['area'] for segment in entry['segments_info']}
    assert areas == dict(zip(*(values.tolist() for values in np.unique(ids, return_counts=True))))
    assert 0 not in areas and sum(areas.values()) == ids.size
    coco = COCO(out / 'predictions.json')
    mask = coco.annToMask(next(iter(coco.anns.values())))
    assert mask.shape == ids.shape
    drawn = mmcv.imread(str(out / picture.name))
    assert (drawn != mmcv.imread(str(picture))).any()


def test_bad_input(
    run_dir: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / 'out'
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'list.txt').write_text('\n')
    (tmp_path / 'clip.mp4').write_bytes(b'no video')
    (tmp_path / 'file').write_text('')
    for arguments, words in (
        ((tmp_path / 'empty', out), 'the folder must hold images'),
        ((tmp_path / 'absent', out), 'does not exist'),
        ((tmp_path / 'list.txt', out), 'an image in each line'),
        ((tmp_path / 'clip.mp4', out), 'must be a video'),
        ((picture, tmp_path / 'file' / 'out'), 'in which you may write'),
        ((picture, out, '--classes', 'seven'), 'names that the model knows'),
        ((picture, out, '--tta'), 'tta_pipeline'),
    ):
        assert words in refused(capsys, run_dir, *arguments)
    predict(run_dir, tmp_path / 'file', out, code=1)
    assert 'no image could be read' in capsys.readouterr().err
    assert [*out.iterdir()] == []


# ---- mmdet's own functions ------------------------------------------------------------------------

FORMS = {
    'the scope alone': """
from mmdet.apis import DetInferencer
inferencer = DetInferencer('run.py', 'epoch_1.pth', device='cpu', scope='mmdetr_plugin')
""",
    'a bare import and the checkpoint alone': """
import mmdetr_plugin
from mmdet.apis import DetInferencer
inferencer = DetInferencer(weights='epoch_1.pth', device='cpu', scope='mmdetr_plugin')
""",
}


@pytest.mark.slow
@pytest.mark.parametrize('form', FORMS)
def test_inferencer_of_mmdet(form: str, model: Predictor, run_dir: Path, picture: Path) -> None:
    script = f"""{FORMS[form]}
found = inferencer('{picture}', no_save_vis=True)['predictions'][0]
print('scores', *found['scores'])
"""
    printed = run([sys.executable, '-W', 'ignore', '-c', script], run_dir)
    scores = np.array(printed.rsplit('scores', 1)[1].split(), float)
    assert np.allclose(scores, model(picture, score_thr=0.0).scores)


def test_names_of_the_package_are_listed() -> None:
    names = dir(mmdetr_plugin)
    assert {'load', 'DETR', 'HungarianAssigner', 'CheckpointAdapter', '__version__'} <= set(names)
    assert all(getattr(mmdetr_plugin, name) is not None for name in names if name[0].isupper())
