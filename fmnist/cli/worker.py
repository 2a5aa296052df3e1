"""A member of a run of several processes: trains along with process 0, and leaves no trace of its own.

``python -m fmnist.cli.worker`` is how process 0 starts it, see ``fmnist.distributed.workers``.
"""

import signal

from fmnist.cli import command_line
from fmnist.distributed import process_info, workers
from fmnist.distributed.process_info import Member
from fmnist.runs.signals import end_with_parent, in_slurm_job


def main() -> None:
    end_with_parent(by=signal.SIGKILL)  # it has nothing to lose, and Slurm's signals are to process 0 alone
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # time is nearly over
    if in_slurm_job():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the machine will be taken away
    serve(process_info.this())


def serve(me: Member) -> None:
    """Does what process 0 does of a run, see ``train.py``, but for what is written and said.

    Raises:
        UserError: Process 0 does not answer.
    """
    with workers.joined(me) as (run, config):
        from fmnist import build  # imports torch and Lightning

        build.prepare(config)
        data, classifier, trainer = build.data(config), build.classifier(config), build.trainer(config, run, me)
        last = run.last_checkpoint if run.last_checkpoint.is_file() else None
        trainer.fit(classifier, data, ckpt_path=last, weights_only=True)
        if config.test:
            best = run.best_checkpoint if run.best_checkpoint.is_file() else None
            trainer.test(classifier, data, ckpt_path=best, weights_only=True, verbose=False)


if __name__ == "__main__":
    with command_line.refusing():
        main()
