"""People who ask for access: anybody may ask, and an administrator approves or denies."""
