"""What TensorBoard shows of a trained network: one panel a module, named as in ``conf/dashboard``."""
