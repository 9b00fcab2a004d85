from .build import SourceReport as SourceReport
from .build import build_corpus as build_corpus
from .build import find_source as find_source
from .erasing import ErasedFrom as ErasedFrom
from .erasing import erase as erase
from .wipe import unfinished as unfinished
