"""The forgetting report: JSON records of a sweep to one page that can be believed.

    sweep.json, evals/*, arms/* ─▶ records ─▶ judging ─▶ report (dict) ─▶ drawing ─▶ writing

text.py    untrusted text made safe to show; how numbers are written
paths.py   values of the report by their JSON path
records/   files of a sweep to frozen records
judging/   records to numbers, verdicts, law, recommendation, caveats
drawing/   numbers of the report to charts in SVG
writing/   the page, JSON, Markdown and the terminal's table
"""
