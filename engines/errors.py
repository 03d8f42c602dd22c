"""What can go wrong in an engine.

EngineError
├── PackageError          the model package is damaged or not one: fix the package
├── BackendUnavailable    the asked backend cannot run on this machine: install it or ask for another
├── InferenceError        one run of the network failed: may work again
│   ├── OutOfDeviceMemory the GPU had no room for it: may work when others have finished
│   └── DeviceLost        the GPU is gone for this process: may work in a new one
├── EngineOutputError     the network answered nonsense: the package does not fit its description
└── DataError             images or annotations to train on or to measure with are not usable: fix the data
    └── AnnotationError   an image is not the one that its annotations were made on
"""

from typing import ClassVar


class EngineError(Exception):
    """Base of all errors of this package. retryable: whether the same job may succeed later, unchanged."""

    retryable: ClassVar[bool] = False


class PackageError(EngineError):
    """A model package is missing, damaged or not valid."""


class BackendUnavailable(EngineError):  # noqa: N818 - the public name, agreed with the rooms that catch it
    """A named backend cannot run here."""


class InferenceError(EngineError):
    """The backend failed while it ran."""

    retryable: ClassVar[bool] = True


class OutOfDeviceMemory(InferenceError):  # noqa: N818 - says what happened
    """The GPU's memory is full."""


class DeviceLost(InferenceError):  # noqa: N818 - the same
    """The GPU does not answer, or this process broke its context; every further call fails, so the process must end."""


class EngineOutputError(EngineError):
    """The network's output is not what its package promises."""


class DataError(EngineError):
    """A table of annotations or an image is missing, damaged or not what is needed; the message says what to do."""


class AnnotationError(DataError):
    """Annotations contradict their image: its size is another, or a lesion lies outside of it."""
