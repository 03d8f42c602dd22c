"""A PACS AI node: DICOM studies in, structured reports and segmentations back. Not for clinical use."""
