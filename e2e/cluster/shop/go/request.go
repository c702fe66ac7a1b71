package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Longest body that is kept of a response.
const bodyBytesMax = 1 << 20

// request is a call as the command line describes it.
type request struct {
	target  string
	method  string
	body    string
	headers headerFlags
	timeout time.Duration
	http2   bool
	grpc    bool
}

func (r *request) flags(flags *flag.FlagSet) {
	flags.StringVar(&r.method, "method", http.MethodGet, "the method of HTTP")
	flags.StringVar(&r.body, "body", "", "what is sent; with --grpc, JSON")
	flags.Var(&r.headers, "header", "`name:value`, as often as wanted")
	flags.DurationVar(&r.timeout, "timeout", 5*time.Second, "what one call may take")
	flags.BoolVar(&r.http2, "h2", false, "HTTP/2 without TLS, with prior knowledge")
	flags.BoolVar(&r.grpc, "grpc", false, "a unary gRPC call to HOST:PORT/SERVICE/METHOD")
}

// outcome is what became of a call.
type outcome struct {
	ok       bool
	status   string // of HTTP a number, of gRPC a name such as UNAVAILABLE; empty without an answer
	headers  http.Header
	trailers http.Header
	body     []byte
	protocol string
	remote   string
	took     time.Duration
	err      error // without a whole answer, why
}

// sender gives the function that makes the call, over connections that are kept for the next one.
func (r *request) sender(concurrency int) (func(context.Context) outcome, error) {
	if r.grpc {
		return r.grpcSender()
	}
	if _, err := http.NewRequest(r.method, r.target, nil); err != nil {
		return nil, err
	}
	client := http2Client()
	if !r.http2 {
		client = &http.Client{Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: concurrency, DisableCompression: true,
		}}
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return func(ctx context.Context) outcome {
		ctx, cancel := context.WithTimeout(ctx, r.timeout)
		defer cancel()
		begun := time.Now()
		done := r.sendHTTP(ctx, client)
		done.took = time.Since(begun)
		return done
	}, nil
}

func (r *request) sendHTTP(ctx context.Context, client *http.Client) (done outcome) {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(got httptrace.GotConnInfo) { done.remote = got.Conn.RemoteAddr().String() },
	})
	sent, err := http.NewRequestWithContext(ctx, r.method, r.target, strings.NewReader(r.body))
	if err != nil {
		return outcome{err: err}
	}
	r.headers.each(func(name, value string) {
		if strings.EqualFold(name, "host") {
			sent.Host = value
		}
		sent.Header.Add(name, value)
	})
	response, err := client.Do(sent)
	if err != nil {
		done.err = err
		return done
	}
	defer response.Body.Close()
	done.status, done.headers, done.protocol = strconv.Itoa(response.StatusCode), response.Header, response.Proto
	done.body, done.err = io.ReadAll(io.LimitReader(response.Body, bodyBytesMax))
	done.trailers = response.Trailer
	done.ok = done.err == nil && response.StatusCode < 400
	return done
}

func (r *request) grpcSender() (func(context.Context) outcome, error) {
	target := strings.TrimPrefix(strings.TrimPrefix(r.target, "grpc://"), "http://")
	addr, method, found := strings.Cut(target, "/")
	if !found {
		return nil, errors.New("a gRPC target is written HOST:PORT/SERVICE/METHOD")
	}
	body := message{}
	if r.body != "" {
		if err := json.Unmarshal([]byte(r.body), &body); err != nil {
			return nil, fmt.Errorf("--body: %w", err)
		}
	}
	connection, err := grpcClient(addr)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) outcome {
		ctx, cancel := context.WithTimeout(ctx, r.timeout)
		defer cancel()
		r.headers.each(func(name, value string) { ctx = metadata.AppendToOutgoingContext(ctx, name, value) })
		var headers, trailers metadata.MD
		var remote peer.Peer
		var reply json.RawMessage
		begun := time.Now()
		err := connection.Invoke(ctx, "/"+method, body, &reply, grpc.Header(&headers), grpc.Trailer(&trailers), grpc.Peer(&remote))
		done := outcome{
			ok: err == nil, status: codeName(status.Code(err)), body: reply, protocol: "gRPC", took: time.Since(begun),
			headers: canonical(headers), trailers: canonical(trailers),
		}
		if remote.Addr != nil {
			done.remote = remote.Addr.String()
		}
		// A code that came from the server is an answer; without anything from it, the code is the library's own.
		if err != nil {
			if len(headers) == 0 && len(trailers) == 0 {
				done.status = ""
				done.err = err
			} else {
				done.trailers.Set("Grpc-Message", status.Convert(err).Message())
			}
		}
		return done
	}, nil
}

func canonical(from metadata.MD) http.Header {
	into := http.Header{}
	for name, values := range from {
		into[http.CanonicalHeaderKey(name)] = values
	}
	return into
}

// codeName is a code as gRPC's documents write it.
func codeName(code codes.Code) string {
	names := []string{
		"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
		"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
		"UNAUTHENTICATED",
	}
	if int(code) < len(names) {
		return names[code]
	}
	return code.String()
}

// errorKind says in a word why there was no whole answer.
func errorKind(err error) string {
	var unknownName *net.DNSError
	var timeout net.Error
	text := err.Error()
	has := func(part string) bool { return strings.Contains(text, part) }
	switch {
	case errors.As(err, &unknownName) || has("produced zero addresses") || has("no such host"):
		return "name"
	case errors.Is(err, syscall.ECONNREFUSED) || has("connection refused"):
		return "refused"
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() || has("DeadlineExceeded"):
		return "timeout"
	// HTTP/2's errors have no public type.
	case errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || has("connection reset") || has("stream error") || has("GOAWAY"):
		return "reset"
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || has("EOF"):
		return "closed"
	default:
		return "other"
	}
}
