"""Convolutional networks on Fashion-MNIST.

Importing the package is cheap on purpose: torch and Lightning are imported by the modules that use them, after the
command line has been accepted.
"""
