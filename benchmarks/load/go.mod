module aegis/benchmarks/load

go 1.24
