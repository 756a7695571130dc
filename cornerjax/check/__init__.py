"""Looks at a COCO-format set before anyone trains on it: `cornerjax check`."""
