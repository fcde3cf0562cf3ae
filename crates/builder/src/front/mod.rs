//! Front ends: from what the client sends to graphs of operations.
