"""TensorBoard panels, one per module, named as in ``conf/dashboard``, and the figures that they draw."""
