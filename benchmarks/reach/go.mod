module aegis/benchmarks/reach

go 1.24
