from .pack import PackedRows as PackedRows
from .packed_store import stored_rows as stored_rows
