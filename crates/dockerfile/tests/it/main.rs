//! Tests of whole Dockerfiles: what a conversion makes of them, and what it says of wrong ones.

#[cfg(test)]
mod convert;
#[cfg(test)]
mod fixture;
