//! How connections reach us: redirect rules, the namespace of `weir run`, original destination, listeners, detection.
