"""CenterNet points, ResNet-101, COCO. Here: not trained yet.

    python train.py --config configs/centernet_points_resnet101.py --data.root data/coco --workdir runs/points

Hyper-parameters of its repository: 140 epochs, learning rate / 10 after 90 and 120; 96 images a step there, 96 here. 53
million parameters. There, the backbone starts from ImageNet, as here with `--init resnet101-5d3b4d8f.pth --init-part
backbone`. AP there: 26.5 on val2017, 28.0 with mirrored images, 31.1 at several scales, of a ResNet whose depth its
author does not say.
"""

from cornerjax.config import Data, Optim
from cornerjax.detectors.centernet_points.options import PointConfig, PointModel, PointTest
from cornerjax.nn.backbones.resnet import ResNet


def config() -> PointConfig:
    return PointConfig(
        model=PointModel(backbone=ResNet(depth=101), head_dim=64),
        data=Data(
            root="data/coco",
            train="train2017",
            val="val2017",
            batch=96,
            crop_px=(512, 512),
            gaussian_radius="legacy",
            gaussian_iou=0.7,
            render="device",
        ),
        optim=Optim(peak_lr=0.000375, decay_steps=(110_880, 147_840)),
        test=PointTest(flip=True),
        steps=172_480,
        eval_steps=12_320,
    )
