"""The forgetting report: JSON records of a sweep to one page that can be believed.

    sweep.json, evals/*, arms/* ─▶ records ─▶ judging ─▶ report (dict) ─▶ drawing ─▶ writing

text.py   makes untrusted text safe to show, and writes numbers
paths.py  looks values of the report up by their JSON path
records/  files of a sweep to frozen records
judging/  records to numbers, verdicts, law, recommendation, caveats
drawing/  numbers of the report to charts in SVG
writing/  the page, JSON, Markdown and the terminal's table
"""
