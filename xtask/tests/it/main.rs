//! Tidiness as tests: the floors and fences of `docs/architecture.md`, and what every source file keeps to.
//!
//! Each test names everything that breaks its rule, not only the first.

#[cfg(test)]
mod floors;
#[cfg(test)]
mod licences;
#[cfg(test)]
mod manifests;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod workspace;
