package main

import (
	"os"

	"example.org/greet"
)

const builtBy = "nobody"

func main() {
	name := "world"
	if len(os.Args) > 1 {
		name = os.Args[1]
	}
	if name == "--health" {
		return
	}
	os.Stdout.WriteString(greet.Hello(name) + " from go, built by " + builtBy + "\n")
}
