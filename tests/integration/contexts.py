"""A context variable of the tests' own."""

from contextvars import ContextVar

WHO: ContextVar[str] = ContextVar("who")
