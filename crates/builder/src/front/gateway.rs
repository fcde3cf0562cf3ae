//! Front ends that are images: run as a step whose standard streams speak the gateway's protocol.

use std::sync::Arc;

use super::{FrontResult, FrontendRequest};
use crate::error::{Error, Result};
use crate::job::Job;

/// Whether an image is the front end that is built in.
pub(super) fn is_built_in(image: &str) -> bool {
    let name = image
        .strip_prefix("docker.io/")
        .or_else(|| image.strip_prefix("index.docker.io/"))
        .unwrap_or(image);
    let name = name.split(['@']).next().unwrap_or_default();
    let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
    matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream")
}

/// Runs a front end's image.
pub(super) async fn solve(
    _job: &Arc<Job>,
    image: String,
    _request: FrontendRequest,
) -> Result<FrontResult> {
    Err(Error::not_implemented(format!(
        "the front end {image} of a syntax line cannot be run: only docker/dockerfile is built in"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_official_front_end_is_built_in() {
        for image in [
            "docker/dockerfile",
            "docker/dockerfile:1",
            "docker.io/docker/dockerfile:1.7-labs",
            "docker/dockerfile:1@sha256:abc",
            "docker/dockerfile-upstream:master",
        ] {
            assert!(is_built_in(image), "{image}");
        }
        for image in [
            "docker/dockerfiles",
            "me/docker/dockerfile",
            "localhost:5000/front",
        ] {
            assert!(!is_built_in(image), "{image}");
        }
    }
}
