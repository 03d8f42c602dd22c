"""What was not sent and is wanted: missing images and priors, by C-FIND, C-MOVE, C-GET or DICOMweb."""
