//! `docker image`, all but `build`.

use super::{Case, fails, ok, piped, prints, shows, sweep};

pub(super) const CASES: &[Case] = &[
    // import and tag
    ok("container create --name source busybox"),
    ok("image tag busybox:latest registry.example/some/box:v1"),
    fails("image tag nosuch x", 1, "No such image: nosuch:latest"),
    // ls
    shows(
        "image ls",
        &["REPOSITORY", "busybox", "registry.example/some/box"],
    ),
    prints(
        "image ls --format '{{.Repository}}:{{.Tag}}' --filter reference='*/some/*'",
        "registry.example/some/box:v1",
    ),
    shows(
        "image ls -a --no-trunc --digests --format '{{.ID}} {{.Digest}}' busybox",
        &["sha256:"],
    ),
    shows("image ls -q --all busybox:latest", &[""]),
    prints("image ls --filter dangling=true -q", ""),
    shows("image ls --tree", &["busybox:latest"]),
    // inspect and history
    prints(
        "image inspect -f '{{.Os}}/{{.Architecture}} {{json .Config.Cmd}}' busybox",
        "linux/{arch} [\"sh\"]",
    ),
    prints(
        "image inspect --platform linux/{arch} --format '{{index .RepoTags 0}}' busybox",
        "busybox:latest",
    ),
    fails("image inspect nosuch", 1, "No such image: nosuch"),
    shows("image history busybox", &["IMAGE", "CREATED BY"]),
    shows(
        "image history --human=false --no-trunc --format '{{.ID}} {{.Size}}' busybox",
        &["sha256:"],
    ),
    shows(
        "image history --human --quiet --platform linux/{arch} busybox",
        &[""],
    ),
    // rm and prune
    shows(
        "image rm registry.example/some/box:v1",
        &["Untagged: registry.example/some/box:v1"],
    ),
    fails("image rm nosuch", 1, "No such image: nosuch:latest"),
    ok("image rm -f nosuch"),
    ok("image tag busybox spare"),
    shows(
        "image rm --force --no-prune spare",
        &["Untagged: spare:latest"],
    ),
    ok("image tag busybox spare"),
    shows("image prune -f", &["Total reclaimed space: 0B"]),
    shows(
        "image prune --force --filter until=24h --filter label=a",
        &["Total reclaimed space: 0B"],
    ),
    piped(
        "image prune",
        "n\n",
        "WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N]",
    ),
    shows("image prune -a -f", &["Total reclaimed space"]),
    prints("image ls -q busybox --format {{.Tag}}", "latest"),
];

#[test]
fn every_command_of_image() {
    sweep(CASES);
}
