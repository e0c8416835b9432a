"""Published benchmarks by name: how their files are read, what is asked, and what an output is worth under which rule."""
