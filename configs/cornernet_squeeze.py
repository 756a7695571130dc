"""CornerNet-Squeeze, COCO. Paper: 34.4 AP. Here: not trained yet.

    python train.py --config configs/cornernet_squeeze.py --data.root data/coco --workdir runs/squeeze

Hyper-parameters of the paper and its repository, except the global batch: 56 here, 55 there (13 + 3 x 14 on four GPUs).
32 million parameters. `group` 14: pull and push are summed over the images of one GPU there.
"""

from cornerjax.config import Data, Optim
from cornerjax.detectors.cornernet import CornerConfig, CornerLoss
from cornerjax.detectors.cornernet_squeeze import CornerNetSqueeze


def config() -> CornerConfig:
    return CornerConfig(
        model=CornerNetSqueeze.defaults.model,
        data=Data(root="data/coco", train="train2017", val="val2017", batch=56, render="device"),
        loss=CornerLoss(group=14.0),
        optim=Optim(peak_lr=2.5e-4, decay_steps=(450_000,)),
        test=CornerNetSqueeze.defaults.test,
        steps=500_000,
        eval_steps=50_000,
    )
