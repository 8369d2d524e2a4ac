"""The query engine: immutable segments of bitmaps and columns, and the answers from them."""
