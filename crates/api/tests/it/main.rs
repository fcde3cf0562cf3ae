//! Answers of a real dockerd 28.5, and a request, go through the types without loss.

#[cfg(test)]
mod golden;
