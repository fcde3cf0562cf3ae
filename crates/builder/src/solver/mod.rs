//! Which operations have to run, in which order.
