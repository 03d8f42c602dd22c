"""Arrays in, findings out: model packages and what runs them. Knows no DICOM and no SQL."""
