//! One call's facts: route, correlation, trace context, deadline, priority.
