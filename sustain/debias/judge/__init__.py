"""Judging predictions and corrections: diagnosis, comparison on known contrasts, cross-fitting, agreement.

A module has the name of its main function, which is therefore imported from there
(``from sustain.debias.judge.cross_fit import cross_fit``); `sustain.debias` hands on what an analyst needs.
"""
