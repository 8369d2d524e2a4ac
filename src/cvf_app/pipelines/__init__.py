"""From the rows of a file to subjects; pure."""
