"""The tracked job: document first, queue second, progress, cancel, undo."""
