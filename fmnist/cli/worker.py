"""A worker of a run in several processes: trains along with rank 0 and writes nothing.

Rank 0 starts it as ``python -m fmnist.cli.worker``, see ``fmnist.distributed.workers``.
"""

import signal

from fmnist.cli.program import quick_process, report_user_errors
from fmnist.distributed import workers
from fmnist.distributed.process_info import ProcessInfo
from fmnist.runs.signals import exit_with_parent, in_slurm_job


def main() -> None:
    exit_with_parent(by=signal.SIGKILL)  # it loses nothing, and Slurm's signals are for rank 0
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # submitit's warning before a job times out
    if in_slurm_job():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Slurm's warning before it takes the machine away
    run(ProcessInfo.from_environment())


def run(me: ProcessInfo) -> None:
    """Trains and tests as ``train.py`` does in rank 0, without writing or logging.

    Raises:
        UserError: Rank 0 does not answer.
    """
    with workers.join_rank_zero(me) as (run, config):
        from fmnist import build  # imports torch and Lightning
        from fmnist.training.fitting import fit_and_test

        build.configure_process(config)
        data = build.data(config)
        classifier, trainer = build.classifier(config, data.spec), build.trainer(config, run, me)
        fit_and_test(trainer, classifier, data, run, test=config.test)


if __name__ == "__main__":
    with quick_process(), report_user_errors():
        main()
