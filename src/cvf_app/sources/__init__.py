"""The catalogue of sources, their data files, ingestion and indices."""
