"""Files of a source to blocks of rows, whatever their format.

    Source ─▶ inputs | hub: files and their hashes ─▶ blocks | tables | csv_rows: blocks of rows

inputs.py    finds the files of a source and hashes their bytes
hub.py       finds the files of a hub dataset and the hashes that the hub has of them
blocks.py    reads a file, compressed or not, in blocks of whole lines
tables.py    reads Parquet and Arrow files in blocks of rows
csv_rows.py  reads CSV and TSV files in blocks of rows
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
