//! weir's data plane: intercepts, correlates, holds back and retries a pod's outbound calls.
