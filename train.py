"""Trains a network on Fashion-MNIST, tests it once, and writes down what came of it.

Run ``python train.py --help`` for what can be set, and how.
"""

import logging

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from fmnist import command_line, remote
from fmnist.run_directory import RunDirectory

log = logging.getLogger("train")


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(config: DictConfig) -> float:
    """Runs one job and returns the monitored metric, which a sweeper may optimize."""
    # torch and Lightning take seconds to import: not before Hydra has accepted the command line.
    from fmnist import build, description, outcome, processes
    from fmnist.logger import log_results, log_start
    from fmnist.session import working_on

    hydra_config = HydraConfig.get()
    run = RunDirectory(hydra_config.runtime.output_dir)
    in_sweep = hydra_config.mode == RunMode.MULTIRUN
    if in_sweep and run.finished:  # the sweep goes on, and has done this job before
        log.info("finished before")
        return outcome.score(run.read_metrics(), config)
    if in_sweep:
        remote.check_versions(run)
    build.prepare(config)
    with working_on(run, config) as record:
        data, classifier, trainer = build.data(config), build.classifier(config), build.trainer(config, run)
        last = run.last_checkpoint if run.last_checkpoint.is_file() else None  # there if the run is resumed
        log_start(trainer, classifier, description.texts(config, classifier), last)

        with processes.together(run, config, trainer):  # with fmnist/member.py in the others, if there are several
            trainer.fit(classifier, data, ckpt_path=last, weights_only=True)
            metrics = outcome.after_training(trainer, run)
            record |= outcome.effort(trainer)
            if config.test:
                best = run.best_checkpoint if run.best_checkpoint.is_file() else None  # None: the weights as they are
                trainer.test(classifier, data, ckpt_path=best, weights_only=True, verbose=False)
                metrics |= outcome.after_test(trainer)

        log_results(trainer, description.hyperparameters(config), metrics)
        run.write_metrics(metrics)
        log.info(outcome.line(metrics) if in_sweep else outcome.summary(run, metrics))
    return outcome.score(metrics, config)


if __name__ == "__main__":
    command_line.run(main)
