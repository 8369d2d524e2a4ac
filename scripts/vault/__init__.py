"""Preparing a Vault for one instance."""
