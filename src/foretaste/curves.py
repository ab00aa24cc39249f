"""The numbers of a run as curves in TensorBoard: a sink for its log."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from foretaste.errors import ConfigError

__all__ = ["Curves"]


class Curves:
    """Writes what a log is told of epochs, such as loss and validation, into a folder that TensorBoard shows.

    The curves of the second fit of a model in the same run stand beside those of the first, as "sasrec 2".

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path | str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError("Curves need TensorBoard: pip install 'foretaste[track]'.") from error
        self._writer: Any = SummaryWriter(str(folder))
        self._fits: dict[str, int] = {}
        self._epochs: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def log(self, message: str, numbers: dict[str, float] | None = None) -> None:
        """Take up the numbers of an epoch; all other messages are passed over. A message begins with its model."""
        if numbers is None or "epoch" not in numbers or len(numbers) == 1:
            return
        name, epoch = message.split(maxsplit=1)[0], int(numbers["epoch"])
        if epoch <= self._epochs.get(name, 0):
            self._fits[name] = self._fits.get(name, 1) + 1
        self._epochs[name] = epoch
        fit = self._fits.get(name, 1)
        label = name if fit == 1 else f"{name} {fit}"
        for called, value in numbers.items():
            if called != "epoch":
                self._writer.add_scalar(f"{label}/{called}", value, epoch)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
