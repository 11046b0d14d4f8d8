"""Many requests share a machine: who is in the next pass, draft tokens, traces of requests, and what came of one."""
