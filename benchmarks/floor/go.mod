module aegis/benchmarks/floor

go 1.24
