"""What a training run costs, beside what it could cost and what the usual ways cost: ``make bench``."""
