module example.org/bench

go 1.19

require (
	golang.org/x/net v0.17.0
	golang.org/x/text v0.13.0
)
