"""The Cafe Variome 3 backend: one package, features inside, floors under them.

Imports go down only; `pyproject.toml` lists the floors from top to bottom.
"""
