specimen.v
