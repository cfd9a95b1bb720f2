"""Benchmarks: each compares the system with a baseline that is measured in the same run.

`python -m bench` runs `bench.overhead`, what the system costs around its engine;
`python -m bench.openmp` compares settings of torch's threads. Figures of different runs
or machines are not comparable; ratios inside one run are.
"""
