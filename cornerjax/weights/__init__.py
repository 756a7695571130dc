"""Released PyTorch checkpoints, read without trust, checked key by key, and turned into ours: `cornerjax weights`."""
