from .deepspeed_settings import ROUNDING_KEYS as ROUNDING_KEYS
from .deepspeed_settings import deepspeed_config as deepspeed_config
from .deepspeed_settings import sums_gradients_in as sums_gradients_in
from .engine import Engine as Engine
from .engine import device as device
from .engine import device_name as device_name
from .engine import join_ranks as join_ranks
