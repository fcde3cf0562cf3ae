//! What is said about an image: its provenance and the software that it holds.
