"""Pictures of a run, drawn from its file: `python -m bench.plots bench/results/latest.json`.

`table.py` lists the plots, `panels.py` collects their points, `draw.py` draws them with matplotlib, and `write.py`
writes the files.
"""
