"""How pollbroker stands against what a user would pick instead: `python -m bench`.

`questions/` holds what is asked, one file each; `peers/` what is compared, one file each; `load/` the compiled source
and sink. `README.md` says how it is measured and how to add to it.
"""
