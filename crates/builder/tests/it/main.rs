//! The build engine's operations over a real engine, which has folders and a network namespace of its own.

#[cfg(test)]
mod cache_mount;
#[cfg(test)]
mod content;
#[cfg(test)]
mod exec;
#[cfg(test)]
mod file;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod front_end;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod snapshot;
#[cfg(test)]
mod solver;
