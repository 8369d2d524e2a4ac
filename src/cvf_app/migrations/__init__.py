"""Numbered changes to the database, both ways, and the number that a database is at."""
