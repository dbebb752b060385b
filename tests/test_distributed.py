"""Two gloo processes give the gradient of one process that has the whole batch."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from criterion_cases import NUM_CLASSES, make_criterion, make_targets, trained
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel

from mmdetr_plugin.criterion import SoftmaxClassLoss, Targets
from mmdetr_plugin.engine.optim_wrapper import FiniteOptimWrapper

IMAGES, QUERIES, PROPOSALS, WIDTH = 4, 9, 12, 8
COUNTS = {'unequal': (5, 1, 0, 2), 'one rank empty': (3, 4, 0, 0)}
KINDS = ('focal', 'softmax')


class Head(nn.Module):
    """A layer's class and box head on given features."""

    def __init__(self, columns):
        super().__init__()
        self.classes = nn.Linear(WIDTH, columns)
        self.boxes = nn.Linear(WIDTH, 4)

    def forward(self, queries, proposals):
        return {
            'pred_logits': self.classes(queries),
            'pred_boxes': self.boxes(queries).sigmoid(),
            'enc_logits': self.classes(proposals),
            'enc_boxes': self.boxes(proposals).sigmoid(),
        }


def gradients(kind, case, part, wrap=lambda head: head):
    """Gradient of every parameter from the images of ``part``."""
    torch.manual_seed(0)
    columns = NUM_CLASSES + (kind == 'softmax')
    queries = torch.randn(2, IMAGES, QUERIES, WIDTH)[:, part]
    proposals = torch.randn(IMAGES, PROPOSALS, WIDTH)[part]
    whole = make_targets(COUNTS[case])
    targets = Targets(whole.labels[part], whole.boxes[part], whole.image_names[part])
    loss = {'loss_cls': SoftmaxClassLoss(sync_weight=True)} if kind == 'softmax' else {}
    head = wrap(Head(columns))
    trained(make_criterion(kind, **loss)(head(queries, proposals), targets)).backward()
    return [parameter.grad for parameter in head.parameters()]


def shard(net):
    return FullyShardedDataParallel(net, device_id=torch.device('cpu'))


def step(part, wrap=lambda net: net, spoiled=False):
    """A network after a step by a gradient that is clipped to a tenth; whether it was skipped."""
    torch.manual_seed(0)
    net = wrap(nn.Sequential(nn.Linear(WIDTH, 30), nn.Tanh(), nn.Linear(30, 1)))
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    wrapper = FiniteOptimWrapper(optimizer, clip_grad={'max_norm': 0.1})
    images = torch.randn(IMAGES, WIDTH, generator=torch.Generator().manual_seed(1))[part]
    images[0] *= float('nan') if spoiled else 1
    with wrapper.optim_context(net):
        loss = (net(images) - 5).square().mean()
    wrapper.update_params(loss)
    return net, wrapper.skipped


def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group('gloo', f'file://{folder}/meet', rank=rank, world_size=2)
    half = slice(rank * 2, rank * 2 + 2)
    averaged = {
        (kind, case): gradients(kind, case, half, DistributedDataParallel)
        for kind in KINDS
        for case in COUNTS
    }
    sharded, _ = step(half, shard)
    with FullyShardedDataParallel.summon_full_params(sharded):
        weights = torch.cat([p.detach().flatten() for p in sharded.parameters()])
    skipped = [step(half, wrap, rank == 1)[1] for wrap in (DistributedDataParallel, shard)]
    torch.save(skipped, f'{folder}/skipped{rank}.pth')
    if rank == 0:
        torch.save(averaged, f'{folder}/gradients.pth')
        torch.save(weights, f'{folder}/weights.pth')
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('gloo')
    mp.spawn(work, (str(folder),), nprocs=2)
    return folder


@pytest.fixture(scope='module')
def averaged(folder):
    return torch.load(folder / 'gradients.pth', weights_only=True)


@pytest.mark.parametrize('case', COUNTS)
@pytest.mark.parametrize('kind', KINDS)
def test_two_processes_equal_one(kind, case, averaged):
    single = gradients(kind, case, slice(None))
    for got, expected in zip(averaged[kind, case], single):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_sharded_gradients_are_clipped_by_the_norm_of_the_whole(folder):
    """Each of the processes of FSDP has a part of the gradient."""
    net, skipped = step(slice(None))
    assert not skipped
    expected = torch.cat([parameter.detach().flatten() for parameter in net.parameters()])
    torch.testing.assert_close(torch.load(folder / 'weights.pth'), expected)


def test_a_step_that_is_not_finite_in_one_process_is_skipped_in_all(folder):
    for rank in (0, 1):
        assert torch.load(folder / f'skipped{rank}.pth') == [True, True]
