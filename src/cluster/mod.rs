//! The Kubernetes side; see the design.
