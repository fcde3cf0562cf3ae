//! One solve of a client.
