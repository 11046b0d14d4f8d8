"""The host's side of a machine: `driver` puts text through it, `inputs` and `terminal` speak to a person.

- `links`: ways to a machine, whether it is simulated, emulated or on a board
- `serving`: many requests share a machine
- `diagnosis`: what is wrong with a machine; `probes` are its guesses, one kind for each unit
"""
