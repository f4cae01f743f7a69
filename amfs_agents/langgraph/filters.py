"""LangGraph's filters of values and conditions on namespaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import ge, gt, le, lt
from typing import Any

from langgraph.store.base import MatchCondition

from amfs_core.errors import InvalidValueError

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {"$gt": gt, "$gte": ge, "$lt": lt, "$lte": le}


def passes(value: Mapping[str, Any], conditions: Mapping[str, Any] | None) -> bool:
    """True when every named member satisfies its condition.

    Raises `InvalidValueError` for an unknown operator.
    """
    return all(
        _matches(value.get(name), condition) for name, condition in (conditions or {}).items()
    )


def _matches(value: Any, condition: Any) -> bool:
    if isinstance(condition, Mapping):
        if any(name.startswith("$") for name in condition):
            return all(_compares(value, *pair) for pair in condition.items())
        return isinstance(value, Mapping) and all(
            _matches(value.get(name), member) for name, member in condition.items()
        )
    if isinstance(condition, list | tuple):
        return (
            isinstance(value, list)
            and len(value) == len(condition)
            and all(map(_matches, value, condition))
        )
    return bool(value == condition)


def _compares(value: Any, operator: str, operand: Any) -> bool:
    if operator == "$eq":
        return bool(value == operand)
    if operator == "$ne":
        return bool(value != operand)
    order = _ORDERS.get(operator)
    if order is None:
        raise InvalidValueError(
            f"there is no operator {operator!r:.80} in a filter",
            hint="use $eq, $ne, $gt, $gte, $lt or $lte",
        )
    both_text = isinstance(value, str) and isinstance(operand, str)
    both_numbers = isinstance(value, int | float) and isinstance(operand, int | float)
    return (both_text or both_numbers) and order(value, operand)


def is_in(namespace: Sequence[str], condition: MatchCondition) -> bool:
    """True for a namespace that begins or ends as the condition says; `*` is any one label."""
    path = condition.path
    if len(namespace) < len(path):
        return False
    if condition.match_type == "prefix":
        labels = namespace[: len(path)]
    elif condition.match_type == "suffix":
        labels = namespace[len(namespace) - len(path) :]
    else:
        raise InvalidValueError(
            f"there is no match type {condition.match_type!r:.80}", hint="use prefix or suffix"
        )
    return all(wanted in ("*", label) for label, wanted in zip(labels, path, strict=True))
