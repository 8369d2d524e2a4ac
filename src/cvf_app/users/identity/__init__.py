"""Identity providers behind one Protocol."""
