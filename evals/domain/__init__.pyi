from .domain_f1 import summarize_domain as summarize_domain
from .domain_items import DomainRow as DomainRow
from .domain_items import load_labels as load_labels
from .domain_items import load_rows as load_rows
from .domain_items import template_use as template_use
from .domain_run import run_domain as run_domain
