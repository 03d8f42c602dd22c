"""Findings as DICOM objects. What comes in is findings.StudyAnalysis, what goes out are datasets ready to be sent."""
