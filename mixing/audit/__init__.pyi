from .megatron import export_source as export_source
from .packing_ledgers import PackingLedger as PackingLedger
from .packing_ledgers import packing_ledger as packing_ledger
from .receipts import receipt as receipt
from .trace import TracedPiece as TracedPiece
from .trace import pieces_of_document as pieces_of_document
from .trace import pieces_of_step as pieces_of_step
