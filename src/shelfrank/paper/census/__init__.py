"""Census-Income (KDD), the data of the MMoE paper: no search, but a check that the networks do what that paper's do.

MMoE paper: Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", 2018.
"""
