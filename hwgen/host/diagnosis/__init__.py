"""What is wrong with a machine: faults to put in, how the unit with a wrong bit is found, and waveforms."""
