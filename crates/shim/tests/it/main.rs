//! Runs the real `gorae-shim` with real containers of a busybox root file system. Needs root.
#![forbid(unsafe_code)]

#[cfg(test)]
mod exec;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod init;
#[cfg(test)]
mod life;
#[cfg(test)]
mod log;
#[cfg(test)]
mod start;
#[cfg(test)]
mod stdio;
