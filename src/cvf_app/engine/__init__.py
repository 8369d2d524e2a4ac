"""The query engine: immutable segments of subjects, plans and their evaluation; no driver, no asyncio."""
