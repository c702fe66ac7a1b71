package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// jsonCodec carries the messages of shop.proto as JSON, so that no language of the shop needs generated code.
type jsonCodec struct{}

func (jsonCodec) Marshal(value any) ([]byte, error)      { return json.Marshal(value) }
func (jsonCodec) Unmarshal(text []byte, value any) error { return json.Unmarshal(text, value) }

// Name is the one that every server takes, whatever it decodes with.
func (jsonCodec) Name() string { return "proto" }

// message is one of shop.proto's.
type message = map[string]any

// payments serves shop.Payments/Charge by gRPC, and has ledger record each charge.
func payments([]string) error {
	ledger, err := grpcClient(setting("LEDGER_ADDR", "ledger:50051"))
	if err != nil {
		return err
	}
	defer ledger.Close()
	listener, err := net.Listen("tcp", ":"+setting("PORT", "50051"))
	if err != nil {
		return err
	}
	g := newGate()
	server := grpc.NewServer(grpc.ForceServerCodec(jsonCodec{}), grpc.UnaryInterceptor(guardedCall(g)))
	server.RegisterService(paymentsService(ledger), nil)
	return serveUntilTold(g, func() error { return server.Serve(listener) }, func(ctx context.Context) error {
		done := make(chan struct{})
		go func() {
			server.GracefulStop()
			close(done)
		}()
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			server.Stop()
			return fmt.Errorf("calls did not end in %v", endTime)
		}
	})
}

func paymentsService(ledger *grpc.ClientConn) *grpc.ServiceDesc {
	pod, _ := os.Hostname()
	charge := func(ctx context.Context, request any) (any, error) {
		ctx, cancel := context.WithTimeout(passOn(ctx), callTime)
		defer cancel()
		entry := message{}
		if err := ledger.Invoke(ctx, "/shop.Ledger/Record", request, &entry); err != nil {
			return nil, err
		}
		return message{"service": "payments", "pod": pod, "traceparent": header(ctx)("traceparent"), "ledger": entry}, nil
	}
	return &grpc.ServiceDesc{
		ServiceName: "shop.Payments",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{
			MethodName: "Charge",
			Handler: func(_ any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
				request := message{}
				if err := decode(&request); err != nil {
					return nil, status.Error(codes.InvalidArgument, err.Error())
				}
				return intercept(ctx, request, &grpc.UnaryServerInfo{FullMethod: "/shop.Payments/Charge"}, charge)
			},
		}},
	}
}

// grpcClient is a connection that is made when it is first needed.
func grpcClient(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient(addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(jsonCodec{})))
}

// header reads the incoming metadata.
func header(ctx context.Context) func(string) string {
	incoming, _ := metadata.FromIncomingContext(ctx)
	return func(name string) string {
		if values := incoming.Get(name); len(values) > 0 {
			return values[0]
		}
		return ""
	}
}

func passOn(ctx context.Context) context.Context {
	get := header(ctx)
	for _, name := range forwarded {
		if value := get(name); value != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, name, value)
		}
	}
	return ctx
}

// guardedCall puts a gate before the work of a gRPC service.
func guardedCall(g *gate) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, work grpc.UnaryHandler) (any, error) {
		wrong, leave, err := g.enter(ctx, header(ctx))
		if err != nil {
			return nil, status.FromContextError(err).Err()
		}
		if wrong != 0 {
			leave(false)
			return nil, status.Error(codeOf(wrong), "told to fail")
		}
		response, err := work(ctx, request)
		leave(err == nil)
		return response, err
	}
}

// codeOf is the gRPC code that says what an HTTP status says.
func codeOf(wrong int) codes.Code {
	switch wrong {
	case http.StatusTooManyRequests:
		return codes.ResourceExhausted
	case http.StatusInternalServerError:
		return codes.Internal
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return codes.Unavailable
	case http.StatusGatewayTimeout:
		return codes.DeadlineExceeded
	default:
		return codes.Unknown
	}
}
