"""The report as one HTML page, JSON, Markdown and the terminal's table.

    folder ─▶ write ─▶ page | markdown | headline       folder ─▶ card, many

write.py     the entry point: reads, joins, writes the three files
headline.py  the headline table as text and as Markdown
markdown.py  the Markdown report
page.py      the HTML page around page.html.j2 and page.css
card.py      a model card of an arm
many.py      many test sets against many models in one table, without a sweep
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
