collect_ignore = ["mutants"]  # no tests; a second import would declare every mutant twice
