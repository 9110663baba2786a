"""What each verb does with an experiment: the one function that the command line and `ray job submit` both run.

Each imports what it needs when it is called: a mistake in a configuration is told before torch is loaded. Nothing is
imported here.
"""
