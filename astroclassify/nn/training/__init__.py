"""The training loop, augmentation, optimisers."""
