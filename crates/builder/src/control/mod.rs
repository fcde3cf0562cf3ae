//! BuildKit's control API.
