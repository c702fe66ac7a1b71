package main

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// forwarded are the headers that every service passes on to the services that it calls.
var forwarded = []string{"traceparent", "tracestate", "baggage", "x-request-id"}

// fault is what a service does wrong, because a test told it to. The zero value is none.
type fault struct {
	status      int           // answered instead of the work; 0: none
	share       float64       // of the requests that get this status
	delay       time.Duration // added to each request
	concurrency int           // requests that are worked on at once, the others queue here; 0: no bound
}

func parseFault(query url.Values) (fault, error) {
	parsed := fault{share: 1}
	var problems []error
	number := func(name string, into *int, least int) {
		value, err := strconv.Atoi(query.Get(name))
		if err != nil || value < least {
			problems = append(problems, fmt.Errorf("%s: not a number from %d", name, least))
		}
		*into = value
	}
	var err error
	for name := range query {
		switch name {
		case "status":
			number(name, &parsed.status, 200)
		case "concurrency":
			number(name, &parsed.concurrency, 1)
		case "share":
			if parsed.share, err = strconv.ParseFloat(query.Get(name), 64); err != nil || !(parsed.share >= 0 && parsed.share <= 1) {
				problems = append(problems, errors.New("share: not a number from 0 to 1"))
			}
		case "delay":
			if parsed.delay, err = time.ParseDuration(query.Get(name)); err != nil || parsed.delay < 0 {
				problems = append(problems, errors.New("delay: not a length of time such as 200ms"))
			}
		default:
			problems = append(problems, fmt.Errorf("%s: unknown", name))
		}
	}
	return parsed, errors.Join(problems...)
}

// counts are what a service has done since it started or was reset.
type counts struct {
	Served        int `json:"served"`
	Failed        int `json:"failed"`
	Concurrent    int `json:"concurrent"`
	ConcurrentMax int `json:"concurrent_max"`
}

// gate is what every request of a service goes through: it counts them, and does to them what the fault says.
type gate struct {
	mutex   sync.Mutex
	fault   fault
	owed    float64 // of the next faulty answer; a share is kept exactly, not by chance
	working int
	waiting *list.List // of chan struct{}, closed once the place is given
	counts  counts
	last    map[string]string
	ending  bool
}

func newGate() *gate { return &gate{waiting: list.New(), last: map[string]string{}} }

// enter waits for a place and for the fault's delay. A status other than 0 is to be answered instead of the work. `leave` is called
// once, with whether the request was answered well.
func (g *gate) enter(ctx context.Context, header func(string) string) (status int, leave func(bool), err error) {
	g.mutex.Lock()
	g.counts.Concurrent++
	g.counts.ConcurrentMax = max(g.counts.ConcurrentMax, g.counts.Concurrent)
	for _, name := range forwarded {
		g.last[name] = header(name)
	}
	placed := g.fault.concurrency == 0 || g.working < g.fault.concurrency
	var turn *list.Element
	given := make(chan struct{})
	if placed {
		g.working++
	} else {
		turn = g.waiting.PushBack(given)
	}
	delay := g.fault.delay
	g.mutex.Unlock()

	if !placed {
		select {
		case <-given:
		case <-ctx.Done():
			g.giveUp(turn, given)
			return 0, func(bool) {}, ctx.Err()
		}
	}
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			g.leave(false)
			return 0, func(bool) {}, ctx.Err()
		}
	}
	return g.verdict(), g.leave, nil
}

// giveUp takes a request out of the queue whose caller has left.
func (g *gate) giveUp(turn *list.Element, given chan struct{}) {
	g.mutex.Lock()
	select {
	case <-given:
		g.mutex.Unlock()
		g.leave(false)
		return
	default:
	}
	g.waiting.Remove(turn)
	g.counts.Concurrent--
	g.counts.Failed++
	g.mutex.Unlock()
}

func (g *gate) verdict() int {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if g.fault.status == 0 {
		return 0
	}
	g.owed += g.fault.share
	if g.owed < 1 {
		return 0
	}
	g.owed--
	return g.fault.status
}

func (g *gate) leave(well bool) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.working--
	g.counts.Concurrent--
	if well {
		g.counts.Served++
	} else {
		g.counts.Failed++
	}
	g.admit()
}

// admit gives free places to those who wait, oldest first.
func (g *gate) admit() {
	for g.waiting.Len() > 0 && (g.fault.concurrency == 0 || g.working < g.fault.concurrency) {
		g.working++
		close(g.waiting.Remove(g.waiting.Front()).(chan struct{}))
	}
}

func (g *gate) set(wrong fault) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.fault, g.owed = wrong, 0
	g.admit()
}

// reset zeroes the counts; requests that are in the service stay counted as such.
func (g *gate) reset() {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.counts = counts{Concurrent: g.counts.Concurrent, ConcurrentMax: g.counts.Concurrent}
}

func (g *gate) end() {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.ending = true
}

func (g *gate) isEnding() bool {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	return g.ending
}
