"""The commands of `aiopip` that have to do with tasks: `run`, `ps`.

run     programs as tasks, from a shell
outcome what became of them: exit statuses, and how they are told
ps      the table of tasks
roots   the open Roots of this user, asked by their sockets
output  text, JSON, or colour on a terminal
"""
