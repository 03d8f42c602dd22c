"""The PyTorch side of the detector; needs the extra "train", and nothing that serves imports it."""
