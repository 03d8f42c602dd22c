"""Instances as images: grey values as a reader would see them, geometry, laterality and view."""

from dicomnode.errors import ImageError
from dicomnode.images.source import SourceImage, load_image, read_header
from dicomnode.images.spacing import PixelSpacing

__all__ = ["ImageError", "PixelSpacing", "SourceImage", "load_image", "read_header"]
