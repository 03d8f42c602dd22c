"""A study's images before an engine: what is analysed, what is left out, and what was found where."""
