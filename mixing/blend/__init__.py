"""Shares and phases to an order of rows: position ─▶ (source, row) ─▶ arrays.

    mix ─▶ shares ─▶ slots ─┐
    schedule ─▶ phases, length ─▶ plan ─▶ Plan (caps)
    Plan ─▶ seek + order: position ─▶ (source, row) ─▶ rows: arrays      Plan ─▶ cursors

shares.py   turns shares into slot counts on an exact grid
caps.py     refuses a plan that reads a source too often, and says what would fit
phases.py   divides a schedule into whole steps
length.py   computes how many steps a run has, from its own tokens or from the domain's
slots.py    orders the sources inside a period, with marks to find any slot quickly
plan.py     compiles mix and schedule over packed sources into a plan
planned.py  defines the compiled plan and the hash chain over its order
order.py    permutes the rows of a source by a key, without storing the permutation
seek.py     finds the source and row at a position, and the reverse
cursors.py  tells how far each source was read, for a branch that goes on from there
rows.py     reads a row as arrays: ids, positions, targets, document lengths
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
