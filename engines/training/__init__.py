"""Training: from annotated images to a model package. Needs the extra "train"."""
