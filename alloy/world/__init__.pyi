from .config import WorldConfig as WorldConfig
from .config import WorldFiles as WorldFiles
from .write import write_world as write_world
