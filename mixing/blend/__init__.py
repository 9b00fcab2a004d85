"""Shares and phases to an order of rows: position ─▶ (source, row) ─▶ arrays.

    mix ─▶ shares ─▶ slots ─┐
    schedule ─▶ phases, length ─▶ plan ─▶ Plan (caps)
    Plan ─▶ seek + order: position ─▶ (source, row) ─▶ rows: arrays      Plan ─▶ cursors

shares.py   asked shares to slot counts on an exact grid
caps.py     refusing a plan that reads a source too often, with what would fit
phases.py   a schedule in whole steps
length.py   how many steps a run has, by its own tokens or by the domain's
slots.py    which source has each slot of a period, and marks to find any slot from
plan.py     mix and schedule over packed sources, compiled
planned.py  what a compiled plan says, and the hash chain over its order
order.py    the keyed permutation of rows inside a source
seek.py     position to (source, row) and back
cursors.py  how far each source was read, for a branch that goes on there
rows.py     a row to arrays: ids, positions, targets, document lengths
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
