"""CornerNet, Hourglass-104, COCO. Paper: 40.5 AP on test-dev, one scale, with mirrored images. Here: not trained yet.

    python train.py --config configs/cornernet.py --data.root data/coco --workdir runs/cornernet

Hyper-parameters of the paper and its repository, except the global batch: 48 here, 49 there (4 + 9 x 5 on ten GPUs),
which divides over no usual mesh. 201 million parameters; the paper took ten 12 GB GPUs. `group` 5: pull and push are
summed over the images of one GPU there.
"""

from cornerjax.config import Data, Optim
from cornerjax.detectors.cornernet import CornerConfig, CornerLoss, CornerNet


def config() -> CornerConfig:
    return CornerConfig(
        model=CornerNet.defaults.model,
        data=Data(root="data/coco", train="train2017", val="val2017", batch=48, render="device"),
        loss=CornerLoss(group=5.0),
        optim=Optim(peak_lr=2.5e-4, decay_steps=(450_000,)),
        test=CornerNet.defaults.test,
        steps=500_000,
        eval_steps=50_000,
    )
