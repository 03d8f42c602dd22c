"""When a study goes in line: it is whole by all evidence, or is to be analysed again."""
