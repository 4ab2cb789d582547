"""The bench compares pollbroker with the brokers that a user might choose instead: `python -m bench`.

`questions/` has a file for each question, `peers/` a file for each broker that is compared, and `load/` the compiled
programs that send and receive. `README.md` says how the bench measures, and how to add to it.
"""
