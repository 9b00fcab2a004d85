"""The report as one HTML page, JSON, Markdown and the terminal's table.

    folder ─▶ write ─▶ page | markdown | headline       folder ─▶ card, many

write.py     joins the records of folders and writes the three files
headline.py  writes the headline table as text and as Markdown
markdown.py  writes the Markdown report
page.py      writes the HTML page
card.py      writes the model card of an arm
many.py      compares many models on many test sets in one table, without a sweep
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
