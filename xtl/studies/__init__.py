"""Studies: a pipeline plus the analysis that answers one research question; one file per study.

An analysis reads only a table of scores and a table of languages (tables.py), so each is tested on simulated tables
with a planted effect (tests/support/simulate.py). `study(finished)` gives it the results of a finished run.

    record -> finished -> predictors -> typology, multilingual, divergence, morphology, domain -> run -> pages
"""
