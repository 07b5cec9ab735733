"""Options, progress, errors and Ctrl-C that commands share, and the files they leave.

    command         the frame of every command: options parsed, errors in one line, SIGINT and SIGTERM handled
    progress        a progress bar, or lines where there is no terminal
    sweeps          run a sweep, or variants of one, in a terminal
    sweep_display   what it shows while it trains
    capacity        `jaxhash sweep`, and the same as an experiment
    any_model       `jaxhash.sweep`: models of one's own; the model that a file holds
    dry_run         `jaxhash sweep --dry-run`
    hashing         options and files of the hash study's figures
    network         one trained network for the experiments that look into it
    files           figures, tables and datasets, each written whole or not at all
    machines        options for devices and processes
    report          an HTML page of what the folders of runs hold

A command is a frozen dataclass of options and a function that takes it: `command.command(Config, __doc__, body, argv)`.
"""
