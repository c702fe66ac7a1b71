package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"time"
)

// printed is a call's outcome as `get` and `call` print it.
type printed struct {
	OK       bool            `json:"ok"`
	Status   any             `json:"status"`
	Headers  http.Header     `json:"headers,omitempty"`
	Trailers http.Header     `json:"trailers,omitempty"`
	Body     string          `json:"body"`
	JSON     json.RawMessage `json:"json,omitempty"`
	Protocol string          `json:"protocol,omitempty"`
	Remote   string          `json:"remote,omitempty"`
	Tries    int             `json:"tries"`
	TookMs   float64         `json:"took_ms"`
	Kind     string          `json:"error_kind,omitempty"`
	Error    string          `json:"error,omitempty"`
}

// get makes one call and prints what came back; it fails if that was no answer, or one from 400 on.
func get(arguments []string) error { return once("get", "URL", false, arguments) }

// call is get for gRPC.
func call(arguments []string) error { return once("call", "HOST:PORT/SERVICE/METHOD", true, arguments) }

func once(name, target string, grpc bool, arguments []string) error {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	var plan request
	plan.flags(flags)
	tries := flags.Int("tries", 1, "how often it is tried until it goes well")
	pause := flags.Duration("pause", 500*time.Millisecond, "from one try to the next")
	withJSON := flags.Bool("json", false, "the body is JSON, and printed as such too")
	words, err := parse(flags, arguments, target)
	if err != nil {
		return err
	}
	plan.target = words[0]
	plan.grpc = plan.grpc || grpc
	send, err := plan.sender(1)
	if err != nil {
		return err
	}
	var done outcome
	tried := 0
	for tried < max(1, *tries) && !done.ok {
		if tried > 0 {
			time.Sleep(*pause)
		}
		done = send(context.Background())
		tried++
	}
	if err := printJSON(print(done, tried, *withJSON)); err != nil {
		return err
	}
	if !done.ok {
		return errReported
	}
	return nil
}

func print(done outcome, tried int, withJSON bool) printed {
	shown := printed{
		OK: done.ok, Status: done.status, Headers: done.headers, Trailers: done.trailers, Body: string(done.body),
		Protocol: done.protocol, Remote: done.remote, Tries: tried, TookMs: milliseconds(done.took),
	}
	var number int
	if _, err := fmt.Sscanf(done.status, "%d", &number); err == nil {
		shown.Status = number
	}
	if withJSON && json.Valid(done.body) {
		shown.JSON = done.body
	}
	if done.err != nil {
		shown.Kind, shown.Error = errorKind(done.err), done.err.Error()
	}
	return shown
}

// job makes calls one after another and ends, as a batch job does; it fails with the first call that fails.
func job(arguments []string) error {
	flags := flag.NewFlagSet("job", flag.ContinueOnError)
	var plan request
	plan.flags(flags)
	calls := flags.Int("calls", 10, "how many")
	words, err := parse(flags, arguments, "URL")
	if err != nil {
		return err
	}
	plan.target = words[0]
	if *calls < 1 {
		return errors.New("wants at least one call")
	}
	send, err := plan.sender(1)
	if err != nil {
		return err
	}
	results := newTally()
	for range *calls {
		results.begin()
		done := send(context.Background())
		results.end(done, "")
		if !done.ok {
			break
		}
	}
	total := results.summary(true)
	if err := printJSON(total); err != nil {
		return err
	}
	if total.OK < *calls {
		return errReported
	}
	return nil
}
