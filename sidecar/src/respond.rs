//! Turns an error into the response that the application gets, well formed for HTTP and for gRPC.
