//! Graphs of operations as clients send them.
