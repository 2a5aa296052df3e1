"""One callback per module, named as in ``conf/callbacks``."""
