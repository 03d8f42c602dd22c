"""What a model is worth: detections against annotations, in figures with intervals; training uses it too."""
