"""A number that the device has still to compute, on its way to the host."""

import torch


class Later:
    """Copies a number to the host without waiting for it.

    Args:
        value: () of any dtype, on any device.
    """

    def __init__(self, value: torch.Tensor) -> None:
        self._done: torch.cuda.Event | None = None
        if value.device.type == "cuda":
            self._host = torch.empty_like(value, device="cpu", pin_memory=True)
            self._host.copy_(value.detach(), non_blocking=True)
            self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._done.record()
        else:
            self._host = value.detach().clone()

    def read(self) -> float:
        """The number. Waits for what the device was to do before the copy, and for nothing after it."""
        if self._done is not None:
            self._done.synchronize()
        return float(self._host)
