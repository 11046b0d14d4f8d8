"""Ways to a machine, all with the interface of `link.Link`."""
