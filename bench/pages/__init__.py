"""Pages whose figures come from the results of record, and from nowhere else: README's section on speed, and more."""
