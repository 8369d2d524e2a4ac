"""Discovery groups: which policy applies to whom at which source."""
