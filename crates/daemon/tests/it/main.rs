//! The API over a real engine, which has folders and a network namespace of its own.

#[cfg(test)]
mod documented;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod routes;
