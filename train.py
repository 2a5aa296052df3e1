"""Train a network, test it once, and save the results in a run directory.

Run ``python train.py --help`` for all settings.
"""

import logging

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from fmnist.cli import program
from fmnist.distributed import remote
from fmnist.runs import summary
from fmnist.runs.run_directory import RunDirectory
from fmnist.sweeps import search

log = logging.getLogger("train")


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(config: DictConfig) -> float:
    """Runs one job and returns the monitored metric, which a sweeper may optimize."""
    # torch and Lightning take seconds to import: not before Hydra has accepted the command line.
    from fmnist import build
    from fmnist.dashboard import texts
    from fmnist.distributed.workers import launch_workers
    from fmnist.runs.session import working_on
    from fmnist.training.fitting import fit_and_test, training_cost
    from fmnist.training.loggers import log_results, log_start

    hydra_config = HydraConfig.get()
    run = RunDirectory(hydra_config.runtime.output_dir)
    in_sweep = hydra_config.mode == RunMode.MULTIRUN
    if in_sweep and run.finished:  # by an earlier start of the same sweep
        log.info("finished before")
        return summary.score(run.read_metrics(), config)
    if in_sweep:
        remote.check_versions(run)
    build.configure_process(config)
    data = build.data(config)
    with working_on(run, config, data=data.spec.to_dict()) as manifest:
        classifier, trainer = build.classifier(config, data.spec), build.trainer(config, run)
        if in_sweep:
            trainer.callbacks.extend(search.callbacks(config, hydra_config))  # type: ignore[attr-defined]
        log_start(trainer, classifier, texts.run_description(config, classifier), run)

        with launch_workers(run, config, trainer):  # several processes: the others run fmnist/cli/worker.py
            metrics = fit_and_test(trainer, classifier, data, run, test=config.test)

        manifest |= training_cost(trainer)
        manifest["data"]["sha256"] = data.sha256
        log_results(trainer, texts.hyperparameters(config), metrics)
        run.write_metrics(metrics)
        log.info(summary.format_line(metrics) if in_sweep else summary.format_summary(run, metrics))
    return summary.score(metrics, config)


if __name__ == "__main__":
    program.run(main)
