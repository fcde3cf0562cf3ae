//! What the solver asks about an operation.
