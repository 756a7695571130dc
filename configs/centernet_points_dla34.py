"""CenterNet points, DLA-34, COCO. Here: not trained yet.

    python train.py --config configs/centernet_points_dla34.py --data.root data/coco --workdir runs/points

Hyper-parameters of its repository: 140 epochs, learning rate / 10 after 90 and 120; 128 images a step there, 128 here.
20 million parameters. There, the backbone starts from ImageNet, as here with `--init dla34-ba72cf86.pth --init-part
backbone`. AP there: 36.3 on val2017, 38.2 with mirrored images, 40.7 at several scales; twice as long 37.4, 39.2,
41.7.
"""

from cornerjax.config import Data, Optim
from cornerjax.detectors.centernet_points.options import PointConfig, PointModel, PointTest
from cornerjax.nn.backbones.dla import DLA


def config() -> PointConfig:
    return PointConfig(
        model=PointModel(backbone=DLA()),
        data=Data(
            root="data/coco",
            train="train2017",
            val="val2017",
            batch=128,
            crop_px=(512, 512),
            gaussian_radius="legacy",
            gaussian_iou=0.7,
            render="device",
        ),
        optim=Optim(peak_lr=0.0005, decay_steps=(83_160, 110_880)),
        test=PointTest(flip=True),
        steps=129_360,
        eval_steps=9_240,
    )
