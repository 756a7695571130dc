"""A small CornerNet on the generated shapes: 127x127 px, three classes.

    python train.py --config configs/shapes.py --workdir runs/corners
    python eval.py --workdir runs/corners

0.5 million parameters, 6 to 8 minutes on 2 cores: AP 0.86 to 0.87, AP50 0.96 to 0.98 on 200 validation images.
"""

from cornerjax.config import Data, Optim
from cornerjax.detectors.cornernet import CornerConfig, CornerLoss, CornerModel, CornerTest
from cornerjax.nn.backbones.hourglass import Hourglass


def config() -> CornerConfig:
    return CornerConfig(
        model=CornerModel(
            detector="cornernet",
            backbone=Hourglass(
                stacks=1,
                stem_dim=16,
                stem_kernel=3,
                dims=(32, 32, 48, 64),
                blocks=(1, 1, 1, 1),
                dim=32,
            ),
            head_kernel=1,
            pool_dim=32,
        ),
        data=Data(
            root="shapes:0",
            batch=8,
            crop_px=(127, 127),
            random_crop=False,
            colour_jitter=0.3,
            lighting=0.0,
            max_objects=8,
        ),
        loss=CornerLoss(pull=0.25, push=0.25, group=8.0),
        optim=Optim(peak_lr=3e-3, schedule="cosine", warmup_steps=400),
        test=CornerTest(batch=40, top_k=30, max_pairs=50),
        steps=3000,
        log_steps=100,
        save_steps=500,
        eval_steps=1000,
    )
