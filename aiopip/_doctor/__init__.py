"""`aiopip doctor`: what this machine offers to tasks, what it lacks, and what follows from that.

    gather               looks at the machine: /proc, limits, this Python
      calls, trial       tries its system calls; runs tasks, in a process of its own
    facts                what was found, Facts, and what is said of it, Finding
    checks               the table of all checks: from Facts to Findings
      machine, sandbox, limits, tasks
    report               shows them: text, table, JSON

All but the trial's process works where `import aiopip` fails, so these modules import the standard
library, `_platform` and each other alone.
"""
