"""All uses of private parts of Lightning, checked with 2.6.6. Their tests fail when one of them changes."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loops.loop import _Loop


class QuickModule(LightningModule):
    """A LightningModule that takes less time to note which hook it is in.

    Lightning sets ``_current_fx_name`` about fifty times per training step, and torch's ``__setattr__`` first finds out
    each time whether the value is a parameter, a module or a buffer: 0.06 ms per step, 3 % of the lesson's epoch.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)


def ignore_signals(trainer: Trainer) -> None:
    """Stops Lightning from handling signals: ``fmnist.runs.signals`` does, and workers end with rank 0.

    Otherwise Lightning would end a job that Slurm has warned, which Slurm requeues only while it lives; and several
    processes would ask each other before each step whether one of them received SIGTERM. There is no public switch.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


def restore_progress(trainer: Trainer, fit_loop_state: dict[str, Any]) -> None:
    """Restores how far training had come, from the fit loop's part of a checkpoint that was written at an epoch's end.

    Such a checkpoint says that the epoch is about to end. With ``trainer.max_steps``, Lightning 2.6 then ends that
    epoch once more without a step; and it counts one epoch less if training was over.
    """
    for progress in fit_loop_state["epoch_progress"].values():
        progress["completed"] = progress["processed"]
    trainer.fit_loop.load_state_dict(fit_loop_state)
    _Loop.restarting.fset(trainer.fit_loop, False)  # type: ignore[attr-defined]
