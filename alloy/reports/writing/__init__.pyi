from .card import model_card as model_card
from .headline import headline_table as headline_table
from .many import HEADER as HEADER
from .many import many_models as many_models
from .many import table_rows as table_rows
from .write import ReportFiles as ReportFiles
from .write import write_report as write_report
