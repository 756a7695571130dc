"""What the recordings of the three detectors of corners have in common."""

from flax import nnx
from recorded import (
    NOISE,
    RECORDINGS,
    by_torch_name,
    compare_candidates,
    compare_maps,
    dense,
    image,
    keypoint_targets,
    nhwc,
    weights,
)

from cornerjax.detectors import get_detector
from cornerjax.nn.backbones.hourglass import through

ORIGINAL_LOSS = {"loss": {"group": 2.0}, "legacy": {"push_itself": True}}


def inside(network, images, *, train):
    """The maps inside the network that were recorded, for `opened`."""
    backbone = network.backbone
    (first, levels), *_, (last, _) = backbone(images, train=train)
    stem = through(backbone.stem, images, train=train)
    both = backbone.from_input[0](stem, train=train) + backbone.from_output[0](first, train=train)
    return {
        "pre": stem,
        "hgs0": levels[-1],
        "cnvs0": first,
        "inters0": backbone.between[0](nnx.relu(both), train=train),
        "tl_module_last": network.tl[-1].pool(last, train=train),
        "br_module_last": network.br[-1].pool(last, train=train),
    }


def compare_forward(name, forward, maps, recorded_inside):
    """The maps of the last stack, those inside the network, and the boxes, as recordings in models/ have them.

    Args:
        forward: of opened.
    """
    assert recorded_inside["in_sum_f64"] == maps["in_sum_f64"]
    outputs, found_inside, found = forward(*weights(name), image(maps))
    compare_maps(by_torch_name(name, outputs), maps, NOISE[f"{RECORDINGS[name][0]}_eval"])
    compare_maps(found_inside, recorded_inside, NOISE["CornerNet_inter"])  # that of the other two was not recorded
    compare_candidates(found, maps["test_dets"], extra=["corner_scores"])


def targets(name, step):
    """What the loss needs of a recorded training step."""
    made = keypoint_targets(name, step)
    for point in (keypoint.name for keypoint in get_detector(name).keypoints):
        if f"inv_gt_{point}_valid__shape" in step:
            made[f"{point}_valid"] = 1 - dense(step, f"inv_gt_{point}_valid")
    return made | {f"attention_{key[-1]}": nhwc(step[key]) for key in step if key.startswith("gt_att.")}
