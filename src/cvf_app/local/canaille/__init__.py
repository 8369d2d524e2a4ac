"""Canaille, the identity provider of local mode: settings, provisioning and its own process.

These files are run by the Python of Canaille's own virtual environment and never imported
by the application.
"""
