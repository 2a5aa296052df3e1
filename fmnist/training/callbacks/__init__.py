"""What can be deleted without changing the weights: one callback a module, named as in ``conf/callbacks``."""
