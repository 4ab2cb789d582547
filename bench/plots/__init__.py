"""Pictures of a run, drawn from its file: `python -m bench.plots bench/results/latest.json`.

`table.py` names the plots, `panels.py` gathers their points, `draw.py` alone needs matplotlib, `write.py` puts them
together.
"""
