"""Census-Income (KDD), the data of the MMoE paper: not search data, but a check of the networks against that paper's.

MMoE paper: Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", 2018.
"""
