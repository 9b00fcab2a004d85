"""What all sections of a recipe share: their settings, and how counts and shares are written."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from configs.units import Count, Share

Fraction = Annotated[Share, Field(ge=0.0, le=1.0)]
PositiveCount = Annotated[Count, Field(gt=0)]


class Section(BaseModel):
    """Common settings of all sections: frozen, no unknown keys, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
