"""What can go wrong with a device, for callers that act on it.

DeviceError
├── NoDevice            no GPU, driver or package: choose another backend
├── NoKernelCode        neither compiled code for this GPU nor a compiler
├── ProgramTooLarge     the AIR's constraints hold more values at once than a GPU thread may
└── DeviceMemoryError   also a MemoryError: split the batch and try again
"""


class DeviceError(Exception):
    """Base class; `code` is stable, `retryable` says whether the same call can succeed later."""

    code = "device"
    retryable = False


class NoDevice(DeviceError, ValueError):
    """There is no device to compute on; a ValueError, as for any backend that is not there."""

    code = "no_device"


class NoKernelCode(DeviceError):
    """No compiled code fits this device and nothing here can compile it."""

    code = "no_kernel_code"


class ProgramTooLarge(DeviceError):
    """A constraint program needs more slots than any quotient kernel has."""

    code = "program_too_large"


class DeviceMemoryError(DeviceError, MemoryError):
    """The device's memory does not hold the batch: a smaller one may fit."""

    code = "device_memory"
    retryable = True
