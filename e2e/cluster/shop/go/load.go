package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// load sends calls at a rate that does not depend on how fast they are answered, and tells what became of them.
func load(arguments []string) error {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	var plan request
	plan.flags(flags)
	url := flags.String("url", "", "what is called; with --grpc, HOST:PORT/SERVICE/METHOD")
	rate := flags.Float64("rate", 10, "calls a second; 0 sends none until /rate says otherwise")
	seconds := flags.Float64("seconds", 10, "how long; 0: until SIGTERM, with /summary, /reset and /rate on the side port")
	calls := flags.Int("calls", 0, "how many at most, the missed ones too; 0: as many as the rate and the seconds make")
	concurrency := flags.Int("concurrency", 100, "calls in flight at most; those that would be more are not sent, and counted as missed")
	every := flags.Duration("report-every", 0, "how often a line tells what happened since the last one; 0: never")
	countHeader := flags.String("count-header", "", "a response header whose values are counted")
	linger := flags.Duration("linger", 0, "how long it goes on calling after SIGTERM")
	if _, err := parse(flags, arguments); err != nil {
		return err
	}
	if *url == "" || !(*rate >= 0) || !(*seconds >= 0) || *concurrency < 1 {
		return fmt.Errorf("wants --url, and neither a rate nor seconds below 0, nor a concurrency below 1")
	}
	plan.target = *url
	send, err := plan.sender(*concurrency)
	if err != nil {
		return err
	}
	run := &loadRun{send: send, countHeader: *countHeader, free: make(chan struct{}, *concurrency), rate: newRate(*rate)}
	run.total.Store(newTally())
	run.window.Store(newTally())

	ctx, cancel := untilTold(*linger)
	defer cancel()
	if *seconds > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*seconds*float64(time.Second)))
		defer cancel()
	} else if err := listenSide(run.side()); err != nil {
		return err
	}
	if *every > 0 {
		go run.report(ctx, *every)
	}
	run.pace(ctx, *calls)
	run.calls.Wait()
	return printJSON(run.total.Load().summary(true))
}

// untilTold ends some time after SIGTERM.
func untilTold(linger time.Duration) (context.Context, context.CancelFunc) {
	told, forget := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	if linger == 0 {
		return told, forget
	}
	ctx, cancel := context.WithCancel(context.Background())
	stop := context.AfterFunc(told, func() { time.AfterFunc(linger, cancel) })
	return ctx, func() {
		stop()
		forget()
		cancel()
	}
}

// loadRun is a load under way.
type loadRun struct {
	send          func(context.Context) outcome
	countHeader   string
	free          chan struct{} // holds one for each call in flight
	rate          *atomic.Int64 // nanoseconds from one call to the next; 0: none are sent
	calls         sync.WaitGroup
	total, window atomic.Pointer[tally]
}

func newRate(rate float64) *atomic.Int64 {
	pause := new(atomic.Int64)
	if rate > 0 {
		pause.Store(int64(float64(time.Second) / rate))
	}
	return pause
}

// pace starts calls when they are due. A late one is made up for, and its latency is counted from when it was due.
func (l *loadRun) pace(ctx context.Context, most int) {
	due := time.Now()
	for begun := 0; most == 0 || begun < most; {
		pause := time.Duration(l.rate.Load())
		if pause == 0 {
			pause = 20 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(due)):
		}
		if l.rate.Load() != 0 {
			l.begin(due)
			begun++
		}
		due = due.Add(pause)
	}
}

func (l *loadRun) begin(due time.Time) {
	tallies := []*tally{l.total.Load(), l.window.Load()}
	select {
	case l.free <- struct{}{}:
	default:
		for _, tally := range tallies {
			tally.miss()
		}
		return
	}
	for _, tally := range tallies {
		tally.begin()
	}
	l.calls.Go(func() {
		// A call outlives the end of the load: it is ended by its own timeout.
		done := l.send(context.Background())
		done.took = time.Since(due)
		for _, tally := range tallies {
			tally.end(done, l.countHeader)
		}
		<-l.free
	})
}

func (l *loadRun) report(ctx context.Context, every time.Duration) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
		window := l.window.Swap(newTally())
		if err := printJSON(window.summary(false)); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// side lets tests read, and steer, a load that runs until it is told to end.
func (l *loadRun) side() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ready") })
	mux.HandleFunc("GET /summary", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, l.total.Load().summary(false))
	})
	mux.HandleFunc("GET /reset", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, l.total.Swap(newTally()).summary(false))
	})
	mux.HandleFunc("GET /rate", func(w http.ResponseWriter, r *http.Request) {
		rate, err := strconv.ParseFloat(r.URL.Query().Get("rate"), 64)
		if err != nil || !(rate >= 0) {
			http.Error(w, "wants ?rate=CALLS_A_SECOND", http.StatusBadRequest)
			return
		}
		l.rate.Store(newRate(rate).Load())
		fmt.Fprintln(w, "set")
	})
	return mux
}
