// The Go part of the demo shop: two of its services, and the small programs that tests run beside them.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
)

// errReported ends a command whose output already says what was wrong.
var errReported = errors.New("failed")

var commands = map[string]func([]string) error{
	"catalog":  catalog,
	"payments": payments,
	"load":     load,
	"get":      get,
	"call":     call,
	"job":      job,
	"dial":     dial,
	"greet":    greet,
	"sleep":    sleep,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		names := make([]string, 0, len(commands))
		for name := range commands {
			names = append(names, name)
		}
		slices.Sort(names)
		fmt.Fprintln(os.Stderr, "usage: shop "+strings.Join(names, "|"))
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		if !errors.Is(err, errReported) {
			fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
		}
		os.Exit(1)
	}
}

// parse reads flags and words in any order, and gives back the words, of which there must be as many as there are names.
func parse(flags *flag.FlagSet, arguments []string, names ...string) ([]string, error) {
	var words []string
	for {
		if err := flags.Parse(arguments); err != nil {
			return nil, err
		}
		if flags.NArg() == 0 {
			break
		}
		words = append(words, flags.Arg(0))
		arguments = flags.Args()[1:]
	}
	if len(words) != len(names) {
		return nil, fmt.Errorf("wants %d words (%s), got %d", len(names), strings.Join(names, " "), len(words))
	}
	return words, nil
}

// headerFlags are headers given as `name: value`, as often as wanted.
type headerFlags []string

func (h *headerFlags) String() string { return strings.Join(*h, ", ") }

func (h *headerFlags) Set(text string) error {
	if !strings.Contains(text, ":") {
		return errors.New("a header is written name:value")
	}
	*h = append(*h, text)
	return nil
}

// each calls `use` with every header.
func (h *headerFlags) each(use func(name, value string)) {
	for _, text := range *h {
		name, value, _ := strings.Cut(text, ":")
		use(strings.TrimSpace(name), strings.TrimSpace(value))
	}
}

func printJSON(value any) error { return json.NewEncoder(os.Stdout).Encode(value) }

// setting is a variable of the environment, or what holds without it.
func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
