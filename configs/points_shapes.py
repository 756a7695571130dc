"""A small CenterNet with points on the generated shapes: 128x128 px, three classes. The default of train.py.

    python train.py --config configs/points_shapes.py --workdir runs/shapes
    python eval.py --workdir runs/shapes

0.4 million parameters, about 5 minutes on 2 cores: AP 0.83, AP50 0.99 on 200 validation images (seed 0).
"""

from cornerjax.config import Data, Optim
from cornerjax.detectors.centernet_points.options import PointConfig, PointModel, PointTest
from cornerjax.nn.backbones.hourglass import Hourglass


def config() -> PointConfig:
    return PointConfig(
        model=PointModel(
            backbone=Hourglass(
                stacks=1,
                stem_dim=16,
                stem_kernel=3,
                dims=(32, 32, 48, 64),
                blocks=(1, 1, 1, 1),
                dim=32,
            ),
            head_dim=32,
        ),
        data=Data(
            root="shapes:0",
            batch=8,
            crop_px=(128, 128),
            random_crop=False,
            colour_jitter=0.3,
            lighting=0.0,
            max_objects=8,
            gaussian_radius="legacy",
            gaussian_iou=0.7,
        ),
        optim=Optim(peak_lr=3e-3, schedule="cosine", warmup_steps=400),
        test=PointTest(batch=40, top_k=30),
        steps=3000,
        log_steps=100,
        save_steps=500,
        eval_steps=1000,
    )
