"""What the site makes of the package's docstrings: their sections, and the page of errors.

What is public by name for another module of the package alone is left out: its summary ends in
"; internal.".
"""

import inspect
import re
from types import SimpleNamespace

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

import aiopip
from aiopip import _errors

# What the texts of errors are made of here.  Each text names the way out; errors that are not here
# are told their text by who raises them.
FACTS = {
    "AbiMismatchError": (2, 3),
    "AlreadyExportedError": ("grid",),
    "ArgumentsTooLongError": ("grep",),
    "BrokenPoolError": (2, aiopip.ExitStatus(9)),
    "BadProgramError": ("./notes.txt", "it is neither an ELF program nor a #! script"),
    "ClosedError": ("the Root is not open yet: `async with aiopip.Root() as root:`",),
    "EntryNotFoundError": ("./worker", "step"),
    "ForkedError": (),
    "GroupNotFoundError": (4711,),
    "ImportCanceledError": ("task 'worker'", "grid"),
    "InterpreterNotFoundError": ("./script", "/usr/bin/python2"),
    "InvalidArgumentError": ("max_tasks", "5000 is not within 1 and 4096"),
    "InvalidRegionError": (0x7F0000001000, 8000, "task 'worker'"),
    "InvalidTaskError": ("worker",),
    "NoTasksError": (),
    "NotCastError": (),
    "NotExecutableError": ("./script", "no permission to reach it, or to execute it"),
    "NotInitializedError": (),
    "NotPicklableError": (
        "jobs.render",
        "argument 2 ('lock'), a _thread.lock,",
        "cannot pickle '_thread.lock' object",
    ),
    "NotPieError": ("/usr/bin/python3", "libpython3.11.so.1.0"),
    "OutOfMappingsError": ("./worker", "64600 of 65530"),
    "PrivilegedProgramError": ("sudo",),
    "ProgramNotFoundError": ("worker", "/usr/local/bin:/usr/bin:/bin"),
    "RemoteError": ("solver.MeshError", "no such mesh"),
    "RootBusyError": (),
    "SlotBusyError": (None, 1024),
    "TaskFailed": (
        SimpleNamespace(program="./worker", pipid=3, pid=4711),
        aiopip.ExitStatus(3 << 8),
        b"out of paper\n",
    ),
    "TaskEndedError": ("worker", 3),
    "TaskTimeoutError": ("make", 60, None, None),
    "TasksAliveError": (2,),
    "UnsupportedLoopError": (),
    "WorkerDiedError": (2, aiopip.ExitStatus(11), "solver: no such mesh\n"),
    "WrongThreadError": (),
}


def drawn_tree():
    """The tree of errors, which the docstring of `_errors` draws."""
    return inspect.cleandoc(inspect.cleandoc(_errors.__doc__).split("\n\n")[1])


def error_names():
    """The names of all errors, in the order of the tree."""
    return [re.search(r"\w+", line)[0] for line in drawn_tree().splitlines()]


def raised_by():
    """By the name of an error: whose docstrings say that they raise it, and when."""
    found = {}
    for path, value in callables():
        for names, when in raises(inspect.getdoc(value) or ""):
            for name in names:
                found.setdefault(name, []).append((path, when))
    return found


def callables():
    """The public functions, classes and methods, by their path in aiopip."""
    for name in aiopip.__all__:
        value = getattr(aiopip, name)
        yield name, value
        if inspect.isclass(value):
            for part, member in vars(value).items():
                if inspect.isroutine(member):
                    yield f"{name}.{part}", member


def raises(docstring):
    """The entries of a docstring's section Raises: the errors, and when."""
    section = re.search(r"^Raises:\n((?: .*\n?|\n)*)", docstring, re.MULTILINE)
    text = inspect.cleandoc("\n" + section[1]) if section else ""
    for entry in re.split(r"\n(?! )", text):
        names, _, when = entry.partition(": ")
        if when:
            yield names.split(", "), re.sub(r"\s+", " ", when)


class ErrorTree(Directive):
    """The tree of errors."""

    def run(self):
        return [nodes.literal_block(text=drawn_tree(), language="text")]


class Errors(Directive):
    """All errors: when they are raised, by what, and what they say."""

    def run(self):
        raisers = raised_by()
        lines = []
        for name in error_names():
            lines += [f".. autoexception:: aiopip.{name}", "   :show-inheritance:", ""]
            if name in FACTS:
                # A role, and not quotes: a text has any characters.
                text = re.sub(r"([*`\\|_])", r"\\\1", str(getattr(aiopip, name)(*FACTS[name])))
                lines += [f"   For example: *{text}*", ""]
            for path, when in raisers.get(name, ()):
                lines += [f"   - :py:obj:`{path} <aiopip.{path}>`: {when}"]
            lines += [""]
        node = nodes.Element()
        self.state.nested_parse(StringList(lines, "errors"), self.content_offset, node)
        return node.children


def for_napoleon(_app, what, _name, _obj, _options, lines):
    """Write a docstring as napoleon understands it.

    It wants a section's header on a line of its own (`Source: call(2)`), and takes what stands
    before a colon in an attribute's first line, and in that of Returns, for a type.  Behind a colon
    of ours that type is empty.
    """
    written = []
    if what in ("attribute", "data", "property"):
        lines[0] = f": {lines[0]}"
    for line in lines:
        section = re.fullmatch(r"(Cancellation|Thread safety|Source): (.)(.*)", line)
        if section:
            header, first, rest = section.groups()
            # Calls and names are written as they are.
            written += [f"{header}:", f"    {first if header == 'Source' else first.upper()}{rest}"]
        elif written and written[-1] == "Returns:":
            written.append(re.sub(r"^( +)", r"\1: ", line))
        else:
            written.append(line)
    lines[:] = written


def leave_out_internals(_app, _what, _name, obj, *_):
    """Names without an underscore that users do not call: see above."""
    summary = (inspect.getdoc(obj) or "").partition("\n")[0]
    return True if summary.endswith("; internal.") else None


def leave_out_arguments(_app, what, _name, obj, *_):
    """Users do not call the constructors of errors, and of what says that something makes it."""
    made = inspect.isclass(obj) and (inspect.getdoc(obj.__init__) or "").startswith("Made by")
    return ("", None) if what == "exception" or made else None


def setup(app):
    # Before napoleon, whose priority is 500.
    app.connect("autodoc-process-docstring", for_napoleon, priority=400)
    app.connect("autodoc-skip-member", leave_out_internals)
    app.connect("autodoc-process-signature", leave_out_arguments)
    app.add_directive("aiopip-error-tree", ErrorTree)
    app.add_directive("aiopip-errors", Errors)
    return {"parallel_read_safe": True}
