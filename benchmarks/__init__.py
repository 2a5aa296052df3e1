"""Times a training run beside the fastest possible one and the usual ways: ``make bench``."""
