"""One file per outside thing; each alone may import its driver."""
