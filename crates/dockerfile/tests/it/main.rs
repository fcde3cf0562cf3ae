//! Tests of whole Dockerfiles: what a conversion makes of them, and what it says of wrong ones.

#[cfg(test)]
mod calls;
#[cfg(test)]
mod convert;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod graph;
#[cfg(test)]
mod lint;
#[cfg(test)]
mod properties;
