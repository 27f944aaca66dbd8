"""Analyze BigQuery SQL with Google's own GoogleSQL analyzer, without a server, an account or a network.

The analyzer is the PyPI package `zetasql`: GoogleSQL's C++ code, compiled to WebAssembly. It is an alpha library, so that
no other code of this repository imports it.
"""

from googlesql.analyzer import Analysis, Analyzer, Column, NotJudgedError, Parameter, RejectedError, Table

__all__ = ["Analysis", "Analyzer", "Column", "NotJudgedError", "Parameter", "RejectedError", "Table"]
