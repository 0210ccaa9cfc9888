"""All that is to be said stands in setup.cfg."""

from setuptools import setup

setup()
