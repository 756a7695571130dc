"""CornerNet-Saccade: the whole image first, then crops of the places that hold something (Law et al. 2019)."""
