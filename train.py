"""Trains a network on Fashion-MNIST, tests it once, and writes down what came of it.

Run ``python train.py --help`` for what can be set, and how.
"""

import logging

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from fmnist.cli import command_line
from fmnist.distributed import remote
from fmnist.runs.run_directory import RunDirectory

log = logging.getLogger("train")


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(config: DictConfig) -> float:
    """Runs one job and returns the monitored metric, which a sweeper may optimize."""
    # torch and Lightning take seconds to import: not before Hydra has accepted the command line.
    from fmnist import build
    from fmnist.dashboard import texts
    from fmnist.distributed import workers
    from fmnist.runs.session import working_on
    from fmnist.training import final_metrics
    from fmnist.training.loggers import log_results, log_start

    hydra_config = HydraConfig.get()
    run = RunDirectory(hydra_config.runtime.output_dir)
    in_sweep = hydra_config.mode == RunMode.MULTIRUN
    if in_sweep and run.finished:  # the sweep goes on, and has done this job before
        log.info("finished before")
        return final_metrics.score(run.read_metrics(), config)
    if in_sweep:
        remote.check_versions(run)
    build.prepare(config)
    with working_on(run, config) as record:
        data, classifier, trainer = build.data(config), build.classifier(config), build.trainer(config, run)
        last = run.last_checkpoint if run.last_checkpoint.is_file() else None  # there if the run is resumed
        log_start(trainer, classifier, texts.texts(config, classifier), last)

        with workers.together(run, config, trainer):  # with fmnist/cli/worker.py in the others, if there are several
            trainer.fit(classifier, data, ckpt_path=last, weights_only=True)
            metrics = final_metrics.after_training(trainer, run)
            record |= final_metrics.effort(trainer)
            if config.test:
                best = run.best_checkpoint if run.best_checkpoint.is_file() else None  # None: the weights as they are
                trainer.test(classifier, data, ckpt_path=best, weights_only=True, verbose=False)
                metrics |= final_metrics.after_test(trainer)

        log_results(trainer, texts.hyperparameters(config), metrics)
        run.write_metrics(metrics)
        log.info(final_metrics.line(metrics) if in_sweep else final_metrics.summary(run, metrics))
    return final_metrics.score(metrics, config)


if __name__ == "__main__":
    command_line.run(main)
