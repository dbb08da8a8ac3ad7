"""Judging predictions and corrections: diagnosis, comparison on known contrasts, cross-fitting, agreement.

Modules have the names of their main functions, so that these are imported from them: ``from sustain.debias.judge.compare
import compare``. What an analyst needs is handed on by `sustain.debias`.
"""
