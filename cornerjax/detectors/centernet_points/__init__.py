"""CenterNet points: objects as the centres of their boxes, with their sizes (Zhou et al. 2019)."""
