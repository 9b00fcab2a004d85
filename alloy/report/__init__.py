"""The forgetting report: JSON records of a sweep to one page that can be believed.

    sweep.json, evals/*, arms/* ─▶ records ─▶ Records ─▶ grouping, join ─▶ report (dict)
    report ─▶ page (figures ─▶ charts ─▶ SVG) ─▶ report.html
    report ─▶ report.json, markdown ─▶ report.md, headline ─▶ the terminal's table

write.py     the entry point: reads, joins, writes the three files
records.py   files to frozen records; what is missing or damaged becomes a noted problem
inputs.py    the shapes of those files
schema.py    the shape of report.json, which is published; schema_tasks.py of its single tasks
join.py      records to the report; every number of every view is looked up in it
scores.py    one model's numbers from its own records
task_inputs.py  the shapes of single tasks in those files, and what all are made of
compare.py   an arm against the base, item by item
many.py      many test sets against many models in one table, without a sweep
budgets.py   budgets to verdicts, arms to a recommendation, saturation
caveats.py   what follows from the data and must be read first
paths.py      values of the report by their JSON path
text.py      untrusted text made safe to show; how numbers are written
headline.py  the headline table as text and as Markdown
markdown.py  the Markdown report
page.py      the HTML page around page.html.j2 and page.css
figures.py   the report's numbers to charts
task_figures.py  precision over recall of the domain's answers
charts.py    a chart to SVG text
axis.py      scales and ticks
labels.py    direct labels without overlaps
"""
