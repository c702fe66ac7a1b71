package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// dial opens a TCP connection and prints how long the server's first bytes took, and what they were.
func dial(arguments []string) error {
	flags := flag.NewFlagSet("dial", flag.ContinueOnError)
	send := flags.String("send", "", `sent at once; \r, \n and \x00 are understood`)
	timeout := flags.Duration("timeout", 5*time.Second, "what all of it may take")
	words, err := parse(flags, arguments, "HOST:PORT")
	if err != nil {
		return err
	}
	text, err := strconv.Unquote(`"` + strings.ReplaceAll(*send, `"`, `\"`) + `"`)
	if err != nil {
		return fmt.Errorf("--send: %w", err)
	}
	begun := time.Now()
	seen := map[string]any{"target": words[0]}
	first, failed := exchange(words[0], text, *timeout, begun, seen)
	if failed != nil {
		seen["error"], seen["error_kind"] = failed.Error(), errorKind(failed)
	} else {
		seen["first_byte_ms"], seen["bytes"] = milliseconds(time.Since(begun)), first
	}
	if err := printJSON(seen); err != nil {
		return err
	}
	if failed != nil {
		return errReported
	}
	return nil
}

func exchange(target, text string, timeout time.Duration, begun time.Time, seen map[string]any) (string, error) {
	connection, err := net.DialTimeout("tcp", target, timeout)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	seen["connect_ms"], seen["remote"] = milliseconds(time.Since(begun)), connection.RemoteAddr().String()
	if err := connection.SetDeadline(begun.Add(timeout)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(connection, text); err != nil {
		return "", err
	}
	first := make([]byte, 4096)
	read, err := connection.Read(first)
	if err != nil {
		return "", err
	}
	return string(first[:read]), nil
}

// greet is a server that speaks first: a banner at once, then what it is sent.
func greet(arguments []string) error {
	flags := flag.NewFlagSet("greet", flag.ContinueOnError)
	port := flags.Int("port", 7000, "where it listens")
	banner := flags.String("banner", "220 shop greets you", "its first line")
	if _, err := parse(flags, arguments); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", ":"+strconv.Itoa(*port))
	if err != nil {
		return err
	}
	g := newGate()
	var open sync.WaitGroup
	return serveUntilTold(g, func() error {
		for {
			connection, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			if err != nil {
				return err
			}
			open.Go(func() { greetOne(g, connection, *banner) })
		}
	}, func(ctx context.Context) error {
		listener.Close()
		done := make(chan struct{})
		go func() {
			open.Wait()
			close(done)
		}()
		// A connection has no end of its own: those that are left end with the process.
		select {
		case <-done:
		case <-ctx.Done():
		}
		return nil
	})
}

func greetOne(g *gate, connection net.Conn, banner string) {
	defer connection.Close()
	_, leave, err := g.enter(context.Background(), func(string) string { return "" })
	if err != nil {
		return
	}
	_, err = io.WriteString(connection, banner+"\r\n")
	if err == nil {
		_, err = io.Copy(connection, connection)
	}
	leave(err == nil)
}

// sleep does nothing, for as long as it is told (`90s`), or until SIGTERM.
func sleep(arguments []string) error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	if len(arguments) == 0 {
		<-ctx.Done()
		return nil
	}
	length, err := time.ParseDuration(arguments[0])
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-time.After(length):
	}
	return nil
}
