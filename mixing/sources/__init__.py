"""Files of a source to blocks of rows, whatever their format.

    Source ─▶ inputs | hub: files and their hashes ─▶ blocks | tables | csv_rows: blocks of rows

inputs.py    which files a source is made of, and the hashes of their bytes
hub.py       which files a dataset of the hub is made of, and the hub's hashes of them
blocks.py    bytes of a file, packed or not, to blocks of whole lines
tables.py    Parquet and Arrow files to blocks of rows
csv_rows.py  CSV and TSV files to blocks of rows
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
