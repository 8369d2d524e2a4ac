"""A whole instance in one encrypted file, and back again."""
