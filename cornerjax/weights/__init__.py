"""Released PyTorch checkpoints, read without trust, checked key by key, and turned into ours.

python -m cornerjax.weights --detector cornernet_squeeze --source CHECKPOINT.pkl --out runs/released
"""
