package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
)

// catalog serves GET /items/ID by HTTP/1, and asks stock by HTTP/2.
func catalog([]string) error {
	stock := strings.TrimSuffix(setting("STOCK_URL", "http://stock"), "/")
	client := http2Client()
	pod, _ := os.Hostname()
	g := newGate()
	mux := http.NewServeMux()
	mux.Handle("GET /items/{id}", guarded(g, func(r *http.Request) (int, any) {
		id := r.PathValue("id")
		body := map[string]any{"service": "catalog", "pod": pod, "item": id, "traceparent": r.Header.Get("traceparent")}
		left, status, err := askStock(r, client, stock+"/stock/"+id)
		if err != nil {
			body["error"] = err.Error()
			return status, body
		}
		body["stock"] = left
		return http.StatusOK, body
	}))
	listener, err := net.Listen("tcp", ":"+setting("PORT", "8080"))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: callTime}
	return serveUntilTold(g, func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}, server.Shutdown)
}

func askStock(r *http.Request, client *http.Client, url string) (json.RawMessage, int, error) {
	ctx, cancel := context.WithTimeout(r.Context(), callTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, http.StatusInternalServerError, err
	}
	for _, name := range forwarded {
		if value := r.Header.Get(name); value != "" {
			request.Header.Set(name, value)
		}
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, statusOf(err), err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, response.StatusCode, fmt.Errorf("stock answered %d", response.StatusCode)
	}
	var left json.RawMessage
	if err := json.NewDecoder(response.Body).Decode(&left); err != nil {
		return nil, statusOf(err), fmt.Errorf("stock's answer: %w", err)
	}
	return left, http.StatusOK, nil
}

// http2Client speaks HTTP/2 without TLS and without an upgrade.
func http2Client() *http.Client {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: protocols, DisableCompression: true}}
}
