"""What runs in the programs' own virtual environments: a module for each, which prints its figures as a line of JSON.

`python -m tests.migrations.traffic.NAME` measures, and starts `... NAME serve ADDRESS...`, which is the process that is
measured: it runs the program's device as its users do.
"""
