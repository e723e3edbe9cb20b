"""Studies: a pipeline plus the analysis that answers one research question.

Analyses read only a table of scores and a table of languages (xtl/studies/tables.py), so every one of them is tested on
simulated tables with a planted truth (xtl/studies/simulate.py). One file a study.
"""
