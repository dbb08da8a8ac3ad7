"""Training curves as TensorBoard reads them, beside ``curves.csv``; only where they are asked for.

Event files hold times and the machine's name, so they never lie in a model's folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.loggers.tensorboard import TensorBoardLogger

from sustain.errors import ConfigError

__all__ = ["TensorBoardCurves"]


class TensorBoardCurves(pl.Callback):
    """Write losses and learning rate of each epoch to an event file, as soon as the epoch has ended.

    Parameters
    ----------
    folder : Path
        Of one run. A resumed training adds a file to it, and TensorBoard joins them.

    Raises
    ------
    ConfigError
        When neither tensorboardX nor tensorboard is installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.logger = TensorBoardLogger(folder, name="", version="")
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"logs for TensorBoard were asked for ({folder}), but neither of the packages that write them is "
                f"installed: pip install tensorboardX, or leave out --tensorboard (SUSTAIN_TENSORBOARD)."
            ) from error

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write the epoch that has just ended."""
        metrics: dict[str, Any] = {
            name: float(trainer.callback_metrics[name]) for name in ("train_loss", "val_loss")
        }
        metrics["learning_rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.logger.log_metrics(metrics, step=trainer.current_epoch + 1)
        self.logger.save()

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Close the file, also when the training failed."""
        self.logger.finalize("finished")
