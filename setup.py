"""Build script: everything is declared in pyproject.toml; ahead-of-time native builds will hook in here."""

from setuptools import setup

setup()
