from .budget_share import Recommendation as Recommendation
from .budget_share import recommend as recommend
from .fit import FEWEST_SHARES as FEWEST_SHARES
from .fit import LEVELS as LEVELS
from .fit import Law as Law
from .fit import Runs as Runs
from .fit import fit_law as fit_law
from .forms import Array as Array
