"""Answers as text, tables, JSON, CSV and pages. No formula and no conversion is made here."""
