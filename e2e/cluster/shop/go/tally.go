package main

import (
	"math"
	"sync"
	"time"
)

// tally counts what became of calls. It takes the same memory however many there are.
type tally struct {
	mutex        sync.Mutex
	since        time.Time
	sent, missed int
	ended, ok    int
	status       map[string]int
	errors       map[string]int
	headers      map[string]int
	sample       map[string]string // of each kind of error its last text, of each bad status its last body
	buckets      [bucketCount]int
	most         time.Duration
}

// Each bucket is 2 % wider than the one below it, so that a percentile is at most that much too high; the last one ends beyond an hour.
const (
	bucketGrowth = 1.02
	bucketCount  = 1200
)

// summary is a tally as it is printed.
type summary struct {
	Final    bool               `json:"final"`
	Seconds  float64            `json:"seconds"`
	Sent     int                `json:"sent"`
	Missed   int                `json:"missed"`
	InFlight int                `json:"in_flight"`
	OK       int                `json:"ok"`
	Status   map[string]int     `json:"status"`
	Errors   map[string]int     `json:"errors"`
	Samples  map[string]string  `json:"samples,omitempty"`
	Headers  map[string]int     `json:"headers,omitempty"`
	Latency  map[string]float64 `json:"latency_ms"`
}

func newTally() *tally {
	return &tally{
		since: time.Now(), status: map[string]int{}, errors: map[string]int{}, headers: map[string]int{}, sample: map[string]string{},
	}
}

func (t *tally) miss() {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.missed++
}

func (t *tally) begin() {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.sent++
}

func (t *tally) end(done outcome, countHeader string) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.ended++
	if done.ok {
		t.ok++
	}
	if done.status != "" {
		t.status[done.status]++
	}
	if done.err != nil {
		kind := errorKind(done.err)
		t.errors[kind]++
		t.sample[kind] = done.err.Error()
	}
	if done.err == nil && !done.ok {
		t.sample[done.status] = string(done.body[:min(len(done.body), 300)])
	}
	if value := done.headers.Get(countHeader); countHeader != "" && value != "" {
		t.headers[value]++
	}
	t.most = max(t.most, done.took)
	bucket := int(math.Log(max(1, float64(done.took.Microseconds()))) / math.Log(bucketGrowth))
	t.buckets[min(bucket, bucketCount-1)]++
}

func (t *tally) summary(final bool) summary {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	copied := func(from map[string]int) map[string]int {
		into := make(map[string]int, len(from))
		for key, value := range from {
			into[key] = value
		}
		return into
	}
	samples := make(map[string]string, len(t.sample))
	for kind, text := range t.sample {
		samples[kind] = text
	}
	return summary{
		Final: final, Seconds: math.Round(time.Since(t.since).Seconds()*1000) / 1000,
		Sent: t.sent, Missed: t.missed, InFlight: t.sent - t.ended, OK: t.ok,
		Status: copied(t.status), Errors: copied(t.errors), Headers: copied(t.headers), Samples: samples,
		Latency: map[string]float64{
			"p50": t.percentile(0.5), "p90": t.percentile(0.9), "p99": t.percentile(0.99), "max": milliseconds(t.most),
		},
	}
}

// percentile is the upper end of the bucket that holds it, in milliseconds.
func (t *tally) percentile(share float64) float64 {
	wanted := int(math.Ceil(share * float64(t.ended)))
	seen := 0
	for bucket, count := range t.buckets {
		seen += count
		if seen >= wanted && seen > 0 {
			upper := time.Duration(math.Pow(bucketGrowth, float64(bucket+1))) * time.Microsecond
			return milliseconds(min(upper, t.most))
		}
	}
	return 0
}

func milliseconds(length time.Duration) float64 {
	return math.Round(length.Seconds()*1e6) / 1e3
}
