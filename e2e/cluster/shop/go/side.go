package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	// What a call to another service may take.
	callTime = 10 * time.Second
	// What requests get to end in, once the service has stopped taking new ones. With the drain it is below the pod's grace of 15 s.
	endTime = 10 * time.Second
)

// serveSide answers tests on a port of its own.
func serveSide(g *gate) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if g.isEnding() {
			http.Error(w, "ending", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("GET /counts", func(w http.ResponseWriter, _ *http.Request) {
		g.mutex.Lock()
		now := g.counts
		g.mutex.Unlock()
		answer(w, http.StatusOK, now)
	})
	mux.HandleFunc("GET /last", func(w http.ResponseWriter, _ *http.Request) {
		g.mutex.Lock()
		last := make(map[string]string, len(g.last))
		for name, value := range g.last {
			last[name] = value
		}
		g.mutex.Unlock()
		answer(w, http.StatusOK, last)
	})
	mux.HandleFunc("GET /fault", func(w http.ResponseWriter, r *http.Request) {
		wrong, err := parseFault(r.URL.Query())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		g.set(wrong)
		fmt.Fprintln(w, "set")
	})
	mux.HandleFunc("GET /reset", func(w http.ResponseWriter, _ *http.Request) {
		g.reset()
		fmt.Fprintln(w, "reset")
	})
	return listenSide(mux)
}

// listenSide serves a handler on the side port, which is there until the process ends.
func listenSide(handler http.Handler) error {
	listener, err := net.Listen("tcp", ":"+setting("SIDE_PORT", "9000"))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: callTime}
	go func() {
		fmt.Fprintln(os.Stderr, "side port:", server.Serve(listener))
		os.Exit(1)
	}()
	return nil
}

// serveUntilTold runs a server, whose port is open already, until SIGTERM. It then goes on for a while, unready, so that no caller is
// told of it any more, and ends it with what is in flight.
func serveUntilTold(g *gate, serve func() error, end func(context.Context) error) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	if err := serveSide(g); err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- serve() }()
	select {
	case err := <-failed:
		return err
	case <-signals:
	}
	g.end()
	drain, err := time.ParseDuration(setting("SHOP_DRAIN", "3s"))
	if err != nil {
		return fmt.Errorf("SHOP_DRAIN: %w", err)
	}
	time.Sleep(drain)
	bounded, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	return end(bounded)
}

// guarded puts a gate before the work of an HTTP service. The work gives the status and the answer.
func guarded(g *gate, work func(*http.Request) (int, any)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, leave, err := g.enter(r.Context(), r.Header.Get)
		if err != nil {
			return
		}
		defer func() { leave(status < 500) }()
		if g.isEnding() {
			// The caller's next request goes to another pod, on a new connection.
			w.Header().Set("Connection", "close")
		}
		if status != 0 {
			answer(w, status, map[string]any{"error": "told to fail"})
			return
		}
		var body any
		status, body = work(r)
		answer(w, status, body)
	})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A caller that has left is no concern of the service.
	_ = json.NewEncoder(w).Encode(body)
}

// statusOf is the HTTP status for a call to another service that failed.
func statusOf(err error) int {
	if errors.Is(err, context.DeadlineExceeded) {
		return http.StatusGatewayTimeout
	}
	return http.StatusBadGateway
}
