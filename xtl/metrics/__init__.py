"""Scores with the semantics of the reference scorers, as pure functions on Python lists and numpy arrays.

Every score is on 0..100. Gold comes first, predictions second. Input that cannot be scored raises XtlError.
"""
