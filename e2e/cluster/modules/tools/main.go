// What a cluster needs besides its own programs: certificates for its parts, and the process that holds a pod's namespaces.
package main

import (
	"fmt"
	"os"
)

func main() {
	commands := map[string]func([]string) error{"pki": pki, "pause": pause}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: tools pki|pause")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}
