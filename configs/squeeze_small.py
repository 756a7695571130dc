"""A narrow CornerNet-Squeeze for small data sets of your own: crops of 255x255 px, images at half their size.

    python train.py --config configs/squeeze_small.py --data.root PATH/TO/FOLDER --workdir runs/mine
    python eval.py --workdir runs/mine

0.4 million parameters, 10 to 12 minutes on 2 cores. On the blood cells of BCCD (292 training images), seed 1: AP 0.461,
AP50 0.54 for red cells, of which many are not marked, 0.97 for white cells and 0.76 for platelets. Tags of so short a
training scatter: pairs up to 1 apart are taken; with 0.5, the papers' number, AP is 0.392.
"""

from cornerjax.config import Data, Optim
from cornerjax.detectors.cornernet import CornerConfig, CornerLoss, CornerModel, CornerTest
from cornerjax.nn.backbones.hourglass import Hourglass


def config() -> CornerConfig:
    return CornerConfig(
        model=CornerModel(
            detector="cornernet_squeeze",
            backbone=Hourglass(
                stacks=1,
                stem_dim=16,
                stem_kernel=3,
                dims=(48, 48, 64, 96),
                blocks=(1, 1, 1, 2),
                dim=48,
                stride=8,
                block="fire",
            ),
            head_kernel=1,
            pool_dim=32,
        ),
        data=Data(
            root="data/mine",
            batch=8,
            crop_px=(255, 255),
            crop_scales=(1.2, 1.4, 1.6, 1.8, 2.0, 2.2, 2.4),
            max_objects=64,
        ),
        loss=CornerLoss(pull=0.25, push=0.25, group=8.0),
        optim=Optim(peak_lr=2e-3, schedule="cosine", warmup_steps=200),
        test=CornerTest(batch=8, scales=(0.5,), top_k=50, max_pairs=200, tag_distance=1.0),
        steps=2000,
        log_steps=50,
        save_steps=500,
        eval_steps=1000,
    )
