"""Reports: the learning curve, findings, lists of runs."""
