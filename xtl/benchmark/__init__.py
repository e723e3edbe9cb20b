"""Prediction and label files of XTREME and XTREME-R, their scores and averages. Pure Python."""
