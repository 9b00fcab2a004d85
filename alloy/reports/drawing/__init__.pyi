from .all_figures import arm_labels as arm_labels
from .all_figures import figures as figures
from .charts import draw as draw
