"""What CornerNet-Saccade can draw over an image: where its attention lies, and the crops that it took."""

from cornerjax import drawing
from cornerjax.config import Config
from cornerjax.detectors.overlay import Evidence, Image, Overlay
from cornerjax.detectors.rows import Detections


def draw_attention(image: Image, evidence: Evidence, found: Detections, config: Config) -> Image:
    """The attention maps for large, medium and small objects over a darkened image, each in a colour of its own."""
    return drawing.draw_layers(image, evidence.layers["attention"])


def draw_crops(image: Image, evidence: Evidence, found: Detections, config: Config) -> Image:
    """The borders of the crops."""
    return drawing.draw_crops(image, evidence.crops)


OVERLAYS = (Overlay("attention", draw_attention, below=True), Overlay("crops", draw_crops, below=True))
