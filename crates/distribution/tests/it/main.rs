//! The registry client against CNCF distribution and against a registry that lies.

#[cfg(test)]
mod docker_config;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod hosts;
#[cfg(test)]
mod parts;
#[cfg(test)]
mod push;
#[cfg(test)]
mod push_stream;
#[cfg(test)]
mod real;
#[cfg(test)]
mod referrers;
#[cfg(test)]
mod remote;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod signatures;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod trust;
