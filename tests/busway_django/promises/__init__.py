"""What `busway.django` promises, seen on a whole site: a real project, real processes, a browser.

Each has a short form in the suite; `BUSWAY_SOAK=long` runs the long one.
"""
